package agentchannel

import (
	"context"
	"errors"

	"etcpve/agents/qemu/cmdline"
)

// Freezes reports whether a guest's file systems are to be frozen for a copy of
// its disks: it has an agent, and the setting does not forbid it.
func Freezes(agent string) bool {
	o, err := cmdline.Config{"agent": agent}.Options("agent", "enabled")
	if err != nil || !o.Bool("enabled", false) {
		return false
	}
	for _, name := range []string{"freeze-fs", "freeze-fs-on-backup", "guest-fsfreeze"} {
		if o[name] != "" {
			return o.Bool(name, true)
		}
	}
	return true
}

// Freeze stops all writing to the guest's file systems, or lets it go on. An
// agent that does not answer cannot have frozen any.
func Freeze(ctx context.Context, socket string, thaw bool) error {
	c, err := Dial(ctx, socket)
	if err != nil {
		if thaw && errors.Is(err, ErrAbsent) {
			return nil
		}
		return err
	}
	defer c.Close()
	command := "guest-fsfreeze-freeze"
	if thaw {
		command = "guest-fsfreeze-thaw"
	}
	return c.Run(ctx, command, nil, nil)
}
