package qemu

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
)

// A phase is a moment of a VM's life at which its hookscript is run.
type phase string

const (
	preStart  phase = "pre-start" // whose failure keeps the VM off
	postStart phase = "post-start"
	preStop   phase = "pre-stop"
	postStop  phase = "post-stop"
)

// hookTime is how long a hookscript may take, during which nothing else is done
// with its VM.
const hookTime = 5 * time.Minute

// hook runs the hookscript of a VM with the VMID and the phase as arguments. It
// is run as the file it is, never by a shell.
func (a *Agent) hook(ctx context.Context, vmid uint32, c cmdline.Config, p phase) error {
	id := c["hookscript"]
	if id == "" {
		return nil
	}
	script, err := a.Volumes.Resolve(ctx, id)
	if err != nil {
		return &cmdline.KeyError{Key: "hookscript", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	argv := []string{script.Path, strconv.FormatUint(uint64(vmid), 10), string(p)}
	out, err := a.system.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return &cmdline.KeyError{Key: "hookscript", Err: fmt.Errorf("%s: %w", p, err)}
	}
	a.Log.Info("hookscript", "vmid", vmid, "phase", string(p), "output", string(out))
	return nil
}

// told runs it in a phase whose failure stops nothing.
func (a *Agent) told(ctx context.Context, vmid uint32, c cmdline.Config, p phase) {
	if err := a.hook(ctx, vmid, c, p); err != nil {
		a.Log.Warn("hookscript failed", "vmid", vmid, "err", err)
	}
}

// started runs post-start once, when the VM runs or is paused as it shall be.
func (a *Agent) started(ctx context.Context, vmid uint32) error {
	r, ok, err := a.records().Load(vmid)
	if err != nil || !ok || r.Hooked {
		return err
	}
	a.told(ctx, vmid, r.Config, postStart)
	return a.records().Update(vmid, func(r *record.Record) { r.Hooked = true })
}
