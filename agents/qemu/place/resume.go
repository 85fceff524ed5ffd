package place

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

	book "etcpve/agents/guest"
	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/state"
	"etcpve/agents/reconcile"
)

// Hardware returns what a running VM's state can be resumed on: its machine
// type with the version, the CPU as given to QEMU, and the MTU that each NIC
// offers, without which QEMU refuses the state of the NIC.
func (p Place) Hardware(ctx context.Context, vmid uint32) (on book.Hardware, err error) {
	err = p.Command(ctx, vmid, "qom-get", map[string]any{"path": "/machine", "property": "type"}, &on.Machine)
	if err != nil {
		return on, err
	}
	on.Machine = strings.TrimSuffix(on.Machine, "-machine")
	process, _, err := p.Process(vmid)
	if err != nil {
		return on, err
	}
	argv, err := host.Proc.Argv(process)
	if err != nil {
		return on, err
	}
	if i := slices.Index(argv, "-cpu"); i >= 0 && i+1 < len(argv) {
		on.CPU = argv[i+1]
	}
	on.HostMTU, err = p.hostMTU(ctx, vmid)
	return on, err
}

// hostMTU lists the MTU of the NICs that have one to offer, as "net0=1500".
func (p Place) hostMTU(ctx context.Context, vmid uint32) (string, error) {
	r, _, err := p.Record(vmid)
	if err != nil {
		return "", err
	}
	var nics []string
	for _, key := range slices.Sorted(maps.Keys(r.Config)) {
		if model, _, _ := strings.Cut(r.Config[key], "="); !strings.HasPrefix(key, "net") || model != "virtio" {
			continue
		}
		var mtu int
		// A NIC that is not plugged in yet has no state to fit.
		if p.Command(ctx, vmid, "qom-get", map[string]any{"path": "/machine/peripheral/" + key, "property": "host_mtu"}, &mtu) == nil {
			nics = append(nics, fmt.Sprintf("%s=%d", key, mtu))
		}
	}
	return strings.Join(nics, ","), nil
}

// ResumeFrom lets the next start of a VM on this node begin in a saved state, or
// on another machine.
func (p Place) ResumeFrom(vmid uint32, r state.Resumption) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(cmdline.RunFile(p.RunDir, vmid, qemu.ResumeExt), content, 0o600)
}

// ForgetResume lets it boot.
func (p Place) ForgetResume(vmid uint32) error {
	err := os.Remove(cmdline.RunFile(p.RunDir, vmid, qemu.ResumeExt))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// SkipLock lets the agent start and stop a VM though it is locked, for a time or
// until undo.
func (p Place) SkipLock(vmid uint32, limit time.Duration) (undo func() error, err error) {
	name := cmdline.RunFile(p.RunDir, vmid, qemu.SkipLockExt)
	until := time.Now().Add(limit).Format(time.RFC3339)
	return func() error { return os.Remove(name) }, os.WriteFile(name, []byte(until+"\n"), 0o600)
}

// EndHere ends the QEMU of a VM whose configuration is on another node by now: what
// is wanted of the VM stays as it is.
func (p Place) EndHere(ctx context.Context, vmid uint32, say func(format string, args ...any)) error {
	process, running, err := p.Process(vmid)
	if err != nil || !running {
		return err
	}
	return endProcess(ctx, process, say)
}

// powerPoll is how often a VM that is waited for is looked at.
const powerPoll = 100 * time.Millisecond

// Await polls until a VM's status is as wanted. It ends early with what the
// agent has said since then stands in the way.
func (p Place) Await(ctx context.Context, vmid uint32, since time.Time, limit time.Duration, wanted func(status string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		status, err := p.Status(ctx, vmid)
		if err == nil && wanted(status) {
			return nil
		}
		said := p.Said(vmid)
		if said.State == reconcile.Failed && !said.Time.Before(since) {
			return errors.New(strings.Join(said.Errors, "\n"))
		}
		select {
		case <-time.After(powerPoll):
		case <-ctx.Done():
			if said.Pending != nil {
				return fmt.Errorf("%s (after %s)", reasons(said.Pending), limit)
			}
			return fmt.Errorf("timeout after %s; is the agent of VMs running on node %s?", limit, p.Node)
		}
	}
}

// Said is what the agent says of a VM; it is empty where it has said nothing.
func (p Place) Said(vmid uint32) reconcile.Document { return reconcile.Read(p.Tree, p.Path(vmid)) }

func reasons(list []reconcile.Pending) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.Key + ": " + p.Reason
	}
	return strings.Join(texts, "; ")
}

// Begin writes what a VM shall do and returns when that was. The file system
// counts whole seconds, and a guest that crashed is started again only by a
// power file that was written since: so no two writes share a second.
func (p Place) Begin(ctx context.Context, vmid uint32, power qemu.Power) (since time.Time, err error) {
	path := filepath.Join(p.Tree, "power", fmt.Sprint(vmid))
	if info, err := os.Stat(path); err == nil {
		select {
		case <-time.After(time.Until(info.ModTime().Truncate(time.Second).Add(time.Second))):
		case <-ctx.Done():
			return since, ctx.Err()
		}
	}
	since = time.Now().Truncate(time.Millisecond) // as the status counts
	return since, p.Power(ctx, vmid, power)
}

// Waits for the end of QEMU.
const endWait = 10 * time.Second

// End ends a VM at once. The record and the power file say so first, so that the
// agent sees an end that was wanted: not a crash, nobody to press the button for,
// and not a guest that switched itself off after a start that is asked for before
// the agent has looked.
func (p Place) End(ctx context.Context, vmid uint32, say func(format string, args ...any)) error {
	return p.end(ctx, vmid, p.noteStop, say)
}

// EndWithin is End in the middle of an Edit, which holds the lock.
func (p Place) EndWithin(ctx context.Context, vmid uint32, say func(format string, args ...any)) error {
	return p.end(ctx, vmid, p.noteStopHeld, say)
}

func (p Place) end(ctx context.Context, vmid uint32, note func(context.Context, uint32, time.Time) error, say func(format string, args ...any)) error {
	process, running, err := p.Process(vmid)
	if err != nil {
		return err
	}
	if running {
		err = note(ctx, vmid, time.Now().Truncate(time.Second))
	}
	if err == nil {
		err = p.Power(ctx, vmid, qemu.Stopped)
	}
	if err != nil {
		return errors.Join(err, note(context.WithoutCancel(ctx), vmid, time.Time{}))
	}
	if err := p.ForgetResume(vmid); err != nil || !running {
		return err
	}
	return endProcess(ctx, process, say)
}

// noteStop notes when a VM was made to stop. An agent that holds the lock for too
// long does not keep the VM alive.
func (p Place) noteStop(ctx context.Context, vmid uint32, when time.Time) error {
	unlock, err := p.lock(ctx, vmid)
	if err != nil {
		return nil
	}
	defer unlock()
	return p.noteStopHeld(ctx, vmid, when)
}

func (p Place) noteStopHeld(_ context.Context, vmid uint32, when time.Time) error {
	return p.note(vmid, func(r *record.Record) { r.Stopping, r.Pressed = when, when })
}
