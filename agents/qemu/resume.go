package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/state"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// ResumeExt is the ending of the file that lets the next start of a VM begin in
// a saved state instead of a boot, or on another machine than configured.
const ResumeExt = "resume"

// SkipLockExt is the ending of the file that lets a VM start and stop though it
// is locked, until the time that is in it.
const SkipLockExt = "skiplock"

// suspended is the value of "lock" of a VM whose state is saved, which a start
// takes away.
const suspended = "suspended"

// locked reports whether a lock keeps a VM from being started and stopped.
func (d Desired) locked() bool { return d.Config["lock"] != "" && !d.SkipLock }

// mayStart reports whether the lock of a VM lets it start.
func mayStart(d Desired) bool { return !d.locked() || d.Config["lock"] == suspended }

// skipsLock reports whether the lock of a VM is to be ignored for now. The file is
// removed by whom it is for; if that one dies, it ends by itself.
func (a *Agent) skipsLock(vmid uint32) bool {
	content, err := os.ReadFile(cmdline.RunFile(a.RunDir, vmid, SkipLockExt))
	if err != nil {
		return false
	}
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(string(content)))
	return err == nil && time.Now().Before(until)
}

// resumption returns what the next start of a VM does in another way; ok says
// that there is something.
func (a *Agent) resumption(d Desired) (r state.Resumption, ok bool, err error) {
	c := d.Config
	if c["lock"] == suspended && c["vmstate"] != "" {
		return state.Resumption{Volume: c["vmstate"], Machine: c["runningmachine"], CPU: c["runningcpu"], HostMTU: c[cmdline.RunningMTU], Suspended: true}, true, nil
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

// loadWait is how long a state may take to be loaded.
const loadWait = 10 * time.Minute

// loadState brings a QEMU that waits for it into a saved state.
func (a *Agent) loadState(ctx context.Context, vmid uint32, r state.Resumption) error {
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
		if said := a.lastLog(vmid); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return fmt.Errorf("resume from '%s': %w", r.Volume, err)
	}
	return nil
}

// A Freer removes volumes.
type Freer interface {
	Free(ctx context.Context, volume string) error
}

// resumed forgets the state that a VM has begun in: it fits the disks only once.
// It may be repeated: what the configuration has stopped to name is in the record.
func (a *Agent) resumed(ctx context.Context, d Desired) error {
	from, ok, err := a.resumption(d)
	switch {
	case err != nil:
		return err
	case !ok:
		return a.spend(ctx, d.VMID)
	case !from.Suspended:
		return os.Remove(cmdline.RunFile(a.RunDir, d.VMID, ResumeExt))
	}
	path := filepath.Join(a.Tree, a.confPath(d.VMID))
	content, err := os.ReadFile(path)
	if err == nil {
		err = a.records().Update(d.VMID, func(r *record.Record) { r.Spent = from.Volume })
	}
	if err != nil {
		return err
	}
	file, _ := guestfile.Parse(layout.QEMU, d.VMID, string(content))
	file.Main.Delete("lock", "vmstate", "runningmachine", "runningcpu", cmdline.RunningMTU)
	if err := os.WriteFile(path, []byte(guestfile.Update(string(content), file)), 0o640); err != nil {
		return err
	}
	return a.spend(ctx, d.VMID)
}

// spend removes the volume of a state that was resumed.
func (a *Agent) spend(ctx context.Context, vmid uint32) error {
	r, ok, err := a.records().Load(vmid)
	if err != nil || !ok || r.Spent == "" {
		return err
	}
	if a.Free == nil {
		a.Log.Warn("volume of the saved state is kept", "vmid", vmid, "volume", r.Spent)
	} else if err := a.Free.Free(ctx, r.Spent); err != nil {
		a.Log.Warn("volume of the saved state not removed", "vmid", vmid, "volume", r.Spent, "err", err)
	}
	return a.records().Update(vmid, func(r *record.Record) { r.Spent = "" })
}
