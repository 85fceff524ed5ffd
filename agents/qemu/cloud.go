package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"etcpve/agents/host"
	"etcpve/agents/qemu/clouddrive"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/hotplug"
)

// cloud is the cloud-init drive of a VM.
func (a *Agent) cloud(vmid uint32) clouddrive.Drive {
	return clouddrive.Drive{VMID: vmid, Config: filepath.Join(a.Tree, a.confPath(vmid)), RunDir: a.RunDir, Volumes: a.Volumes}
}

// CloudInitOf returns what the cloud-init drive of a VM has to hold now.
func (a *Agent) CloudInitOf(ctx context.Context, vmid uint32) (cloudinit.Data, error) {
	d, err := a.Desired(ctx, strconv.FormatUint(uint64(vmid), 10))
	if err != nil {
		return cloudinit.Data{}, err
	}
	return a.cloud(vmid).Data(ctx, d.Config)
}

// UpdateCloudInit makes the drive of a VM anew; a guest that runs gets it as a new
// medium. That QEMU is spoken to by talk, for the agent that runs it has a
// connection of its own.
func (a *Agent) UpdateCloudInit(ctx context.Context, vmid uint32, talk func(ctx context.Context, command string, args, result any) error) error {
	unlock, err := a.lock(ctx, vmid)
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	defer unlock()
	d, err := a.Desired(ctx, strconv.FormatUint(uint64(vmid), 10))
	if err != nil {
		return err
	}
	r, known, err := a.records().Load(vmid)
	if err != nil {
		return err
	}
	switch _, begun := a.byPIDFile(vmid); {
	case known && r.Process.PID != 0 && host.Proc.Alive(r.Process):
		machine := a.machine(vmid, d.Config)
		machine.QMP = talk
		err = a.changeOn(ctx, vmid, machine, Action{Desired: d, Change: hotplug.Action{Do: hotplug.CloudInit, Key: cloudinit.Drive(r.Config)}})
	case begun:
		err = errors.New("QEMU is being started")
	default:
		if err = a.cloud(vmid).Fill(ctx, d.Config); err == nil {
			err = a.cloud(vmid).Note(d.Config)
		}
	}
	if err != nil {
		return a.at(d, err)
	}
	return nil
}
