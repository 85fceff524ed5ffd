package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cgroup"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/pages"
	"etcpve/agents/qemu/record"
	"etcpve/agents/reconcile"
	"etcpve/cfs/layout"
)

// Waits of one action.
const (
	lockWait = 10 * time.Second // for another program's lock on the guest
	quitWait = 5 * time.Second  // for QEMU to end when told to
)

// Apply carries out one step under the node's lock of the guest.
func (a *Agent) Apply(ctx context.Context, key string, action Action) error {
	vmid, err := vmidOf(key)
	if err != nil {
		return err
	}
	unlock, err := a.lock(ctx, vmid)
	if err != nil {
		return reconcile.Abandon(fmt.Errorf("vm %d: %w", vmid, err))
	}
	defer unlock()
	steps := map[Step]func(context.Context, uint32, Action) error{
		Start: a.start, Shutdown: a.shutdown, Kill: a.kill, Pause: a.pause, Resume: a.resume,
		WriteOff: a.writeOff, Reap: a.reap, Blame: a.blame, Change: a.change,
	}
	if err := steps[action.Step](ctx, vmid, action); err != nil {
		err = a.at(action.Desired, err)
		if action.Step != Change {
			err = reconcile.Abandon(err)
		}
		return err
	}
	return nil
}

// lock takes the lock that PVE's tools take before they touch a guest.
func (a *Agent) lock(ctx context.Context, vmid uint32) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	return host.Flock(ctx, filepath.Join(a.Locks, fmt.Sprintf("lock-%d.conf", vmid)))
}

// command runs one QMP command against a VM.
func (a *Agent) command(ctx context.Context, vmid uint32, name string, args, result any) error {
	m, err := a.guest(vmid).connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return m.Run(ctx, name, args, result)
}

func (a *Agent) shutdown(ctx context.Context, vmid uint32, _ Action) error {
	if r, _, err := a.records().Load(vmid); err == nil && r.Stopping.IsZero() {
		a.told(ctx, vmid, r.Config, preStop)
	}
	if err := a.command(ctx, vmid, "system_powerdown", nil, nil); err != nil {
		return err
	}
	return a.records().Update(vmid, func(r *record.Record) {
		r.Pressed = now()
		if r.Stopping.IsZero() {
			r.Stopping = r.Pressed
		}
	})
}

// kill ends QEMU: asked to, then by SIGTERM, then by SIGKILL.
func (a *Agent) kill(ctx context.Context, vmid uint32, _ Action) error {
	r, _, err := a.records().Load(vmid)
	if err != nil {
		return err
	}
	if r.Stopping.IsZero() {
		if r.Hooked {
			a.told(ctx, vmid, r.Config, preStop)
		}
		if err := a.records().Update(vmid, func(r *record.Record) { r.Stopping = now() }); err != nil {
			return err
		}
	}
	tries := []func() error{
		func() error { return a.command(ctx, vmid, "quit", nil, nil) },
		func() error { return host.Proc.Signal(r.Process, syscall.SIGTERM) },
		func() error { return host.Proc.Signal(r.Process, syscall.SIGKILL) },
	}
	for _, try := range tries {
		if err = try(); err != nil && host.Proc.Alive(r.Process) {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, quitWait)
		err = host.Proc.WaitExit(wait, r.Process)
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("kill: %w", err)
}

func (a *Agent) pause(ctx context.Context, vmid uint32, _ Action) error {
	return a.command(ctx, vmid, "stop", nil, nil)
}

func (a *Agent) resume(ctx context.Context, vmid uint32, action Action) error {
	// Before the guest runs: the saved state that it may come from fits no longer.
	if err := a.resumed(ctx, action.Desired); err != nil {
		return err
	}
	if err := a.prepare(ctx, vmid, action.Desired); err != nil {
		return err
	}
	if err := a.command(ctx, vmid, "cont", nil, nil); err != nil {
		return err
	}
	if err := a.records().Update(vmid, func(r *record.Record) { r.Begun = true }); err != nil {
		return err
	}
	return a.started(ctx, vmid)
}

// writeOff says that a guest is off, unless somebody has said since the plan was
// made what it is to do: a guest that was stopped and started again is not to be
// stopped for the end that was seen.
func (a *Agent) writeOff(_ context.Context, vmid uint32, action Action) error {
	d := action.Desired
	power := filepath.Join(a.Tree, layout.PowerDir, strconv.FormatUint(uint64(vmid), 10))
	_, before, _ := strings.Cut(d.Mark, "/")
	if _, now, _ := strings.Cut(mark("", power, nil), "/"); now != before {
		return nil
	}
	return a.writePower(vmid, Stopped)
}

// writePower says in the tree what a guest is to do.
func (a *Agent) writePower(vmid uint32, p Power) error {
	path := filepath.Join(a.Tree, layout.PowerDir, strconv.FormatUint(uint64(vmid), 10))
	if err := os.WriteFile(path, []byte(string(p)+"\n"), 0o640); err != nil {
		return fmt.Errorf("write power: %w", err)
	}
	return nil
}

// reap ends a QEMU whose guest is off, if it is there, and removes its traces.
func (a *Agent) reap(ctx context.Context, vmid uint32, action Action) error {
	r, ok, err := a.records().Load(vmid)
	if err != nil {
		return err
	}
	if ok && r.Process.PID != 0 && host.Proc.Alive(r.Process) {
		if err := a.kill(ctx, vmid, action); err != nil {
			return err
		}
	}
	a.drop(vmid)
	for key := range r.Config {
		if _, nic := cmdline.Index(key, "net"); nic {
			err = errors.Join(err, a.Ports.Unplug(ctx, cmdline.TapName(vmid, key)))
		}
	}
	if !r.Config.Bool("keephugepages", false) {
		err = errors.Join(err, pages.Release(r.PageKiB, r.Pages))
	}
	if path := cmdline.SharedMemory(vmid, r.Config); path != "" {
		_ = os.Remove(path) // other guests that have it open keep it
	}
	if r.Hooked {
		a.told(ctx, vmid, r.Config, postStop)
	}
	return errors.Join(err, cgroup.Node(a.Slice).Remove(vmid), a.forget(ctx, vmid))
}

// blame records that QEMU is gone though nobody asked it to go.
func (a *Agent) blame(_ context.Context, vmid uint32, action Action) error {
	reason := fmt.Sprintf("QEMU (process %d) is gone", mustPID(a, vmid))
	if said := a.lastLog(vmid); said != "" {
		reason += ": " + said
	}
	a.drop(vmid)
	return a.records().Update(vmid, func(r *record.Record) { r.Crash, r.Mark = reason, action.Desired.Mark })
}

func mustPID(a *Agent, vmid uint32) int {
	r, _, _ := a.records().Load(vmid) // 0 for one that cannot be read
	return r.Process.PID
}

// maxSaid is how much of QEMU's log goes into an error.
const maxSaid = 500

// lastLog returns the end of what QEMU wrote to its log since it was started.
func (a *Agent) lastLog(vmid uint32) string {
	content, err := os.ReadFile(cmdline.RunFile(a.RunDir, vmid, "log"))
	if err != nil {
		return ""
	}
	said := strings.TrimSpace(string(content))
	if over := len(said) - maxSaid; over > 0 {
		said = "…" + said[over:]
	}
	return strings.ReplaceAll(said, "\n", "; ")
}
