package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/state"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// ResumeExt is the ending of the file that lets the next start of a VM begin in
// a saved state instead of a boot.
const ResumeExt = "resume"

// A Resumption is a saved state and what it needs.
type Resumption struct {
	Volume  string `json:"volume"`
	Machine string `json:"machine,omitempty"` // type with version
	CPU     string `json:"cpu,omitempty"`     // as given to QEMU

	suspended bool // the configuration names it, and stops to do so
}

// suspended is the value of "lock" of a VM whose state is saved, which a start
// takes away.
const suspended = "suspended"

// mayStart reports whether the lock of a VM lets it start.
func mayStart(c cmdline.Config) bool { return c["lock"] == "" || c["lock"] == suspended }

// resumption returns the state that a VM shall begin in, if there is one.
func (a *Agent) resumption(d Desired) (r Resumption, ok bool, err error) {
	c := d.Config
	if c["lock"] == suspended && c["vmstate"] != "" {
		return Resumption{c["vmstate"], c["runningmachine"], c["runningcpu"], true}, true, nil
	}
	content, err := os.ReadFile(cmdline.RunFile(a.RunDir, d.VMID, ResumeExt))
	if errors.Is(err, os.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	return r, err == nil, err
}

// onlyMain leaves out what waits: a saved state fits the hardware it was saved
// on, so changes go on waiting.
func onlyMain(d Desired) Desired {
	file, _ := guestfile.Parse(layout.QEMU, d.VMID, string(d.Text))
	file.Pending = guestfile.NewSection()
	d.Config = settings(file)
	d.keep = true
	return d
}

// on returns the configuration with the machine that the state was saved on.
func (r Resumption) on(c cmdline.Config) cmdline.Config {
	if r.Machine == "" {
		return c
	}
	c = maps.Clone(c)
	// The type stands first, or behind its name.
	parts := []string{r.Machine}
	for part := range strings.SplitSeq(c["machine"], ",") {
		if key, _, named := strings.Cut(part, "="); part != "" && named && key != "type" {
			parts = append(parts, part)
		}
	}
	c["machine"] = strings.Join(parts, ",")
	return c
}

// arguments makes a command line wait for the state.
func (r Resumption) arguments(args []string) []string {
	args = slices.Clone(args)
	if i := slices.Index(args, "-cpu"); i >= 0 && i+1 < len(args) && r.CPU != "" {
		args[i+1] = r.CPU
	}
	return append(args, "-incoming", "defer")
}

// loadWait is how long a state may take to be loaded.
const loadWait = 10 * time.Minute

// loadState brings a QEMU that waits for it into a saved state.
func (a *Agent) loadState(ctx context.Context, vmid uint32, r Resumption) error {
	volume, err := a.Volumes.Resolve(ctx, r.Volume)
	if err != nil {
		return &cmdline.KeyError{Key: "vmstate", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	talk := func(ctx context.Context, command string, args map[string]any, result any) error {
		if args == nil {
			return a.command(ctx, vmid, command, nil, result)
		}
		return a.command(ctx, vmid, command, args, result)
	}
	if err := state.Load(ctx, talk, cmdline.RunFile(a.RunDir, vmid, "state"), volume.Path); err != nil {
		return fmt.Errorf("resume from '%s': %w", r.Volume, err)
	}
	return nil
}

// A Freer removes volumes.
type Freer interface {
	Free(ctx context.Context, volume string) error
}

// resumed forgets the state that a VM has begun in: it fits the disks only once.
func (a *Agent) resumed(ctx context.Context, d Desired) error {
	from, ok, err := a.resumption(d)
	switch {
	case err != nil || !ok:
		return err
	case !from.suspended:
		return os.Remove(cmdline.RunFile(a.RunDir, d.VMID, ResumeExt))
	}
	path := filepath.Join(a.Tree, a.confPath(d.VMID))
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, _ := guestfile.Parse(layout.QEMU, d.VMID, string(content))
	file.Main.Delete("lock", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu")
	if err := os.WriteFile(path, []byte(guestfile.Update(string(content), file)), 0o640); err != nil {
		return err
	}
	if a.Free == nil {
		a.Log.Warn("volume of the saved state is kept", "vmid", d.VMID, "volume", from.Volume)
		return nil
	}
	if err := a.Free.Free(ctx, from.Volume); err != nil {
		a.Log.Warn("volume of the saved state not removed", "vmid", d.VMID, "volume", from.Volume, "err", err)
	}
	return nil
}
