package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	book "etcpve/agents/guest"
	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/state"
)

// An Arrival is a VM that runs on another node and is about to go on here.
type Arrival struct {
	VMID   uint32
	Config cmdline.Config // in effect there, with the volumes it has here
	On     book.Hardware  // what its state needs
	Accel  string         // kvm or tcg, which have to be the same
}

// Receive starts a QEMU that waits for the state of a VM. The VM has no
// configuration here yet; when it has, and is not locked, the agent takes it on:
// until then it leaves alone what it does not find configured.
func (a *Agent) Receive(ctx context.Context, v Arrival) error {
	unlock, err := a.lock(ctx, v.VMID)
	if err != nil {
		return fmt.Errorf("vm %d: %w", v.VMID, err)
	}
	defer unlock()
	if r, ok, err := a.records().Load(v.VMID); err != nil || ok && host.Proc.Alive(r.Process) {
		if err == nil {
			err = fmt.Errorf("vm %d: runs here as process %d", v.VMID, r.Process.PID)
		}
		return err
	}
	if err := a.foreign(v.VMID); err != nil {
		return err
	}
	if _, accel, err := a.hostFor(ctx, v.Config); err != nil || !strings.HasPrefix(accel, v.Accel) {
		return errors.Join(err, fmt.Errorf("vm %d: it runs under %s there and would run under %s here", v.VMID, v.Accel, accel))
	}
	d := Desired{VMID: v.VMID, Config: v.Config}
	action := Action{Step: Start, Desired: d}
	from := state.Resumption{Machine: v.On.Machine, CPU: v.On.CPU, HostMTU: v.On.HostMTU, Arrives: true}
	// Its hookscript is told of a start only, and its cloud-init image came along.
	command, err := a.raise(ctx, v.VMID, action, d, from, func() error { return nil })
	if err != nil {
		return a.at(d, err)
	}
	for _, tap := range command.Taps {
		if err := a.Ports.Plug(ctx, tap); err != nil {
			return a.at(d, a.failStart(ctx, v.VMID, action, &cmdline.KeyError{Key: tap.Key, Err: err}))
		}
	}
	return errors.Join(a.shareAtStart(ctx, v.VMID, v.Config), a.records().Update(v.VMID, func(r *record.Record) { r.Hooked = true }))
}

// Discard ends a QEMU that waited for a state which does not come.
func (a *Agent) Discard(ctx context.Context, vmid uint32) error {
	unlock, err := a.lock(ctx, vmid)
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	defer unlock()
	if err := a.end(ctx, vmid); err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	return a.reap(ctx, vmid, Action{})
}

// end ends a QEMU without a farewell: nothing runs in it, and whoever holds its
// monitor need not be asked.
func (a *Agent) end(ctx context.Context, vmid uint32) error {
	r, ok, err := a.records().Load(vmid)
	if err != nil || !ok || !host.Proc.Alive(r.Process) {
		return err
	}
	if err := host.Proc.Signal(r.Process, syscall.SIGKILL); err != nil && !errors.Is(err, host.ErrGone) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quitWait)
	defer cancel()
	return host.Proc.WaitExit(ctx, r.Process)
}
