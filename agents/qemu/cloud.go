package qemu

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"etcpve/agents/qemu/clouddrive"
	"etcpve/agents/qemu/cloudinit"
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

// UpdateCloudInit makes the drive of a VM that does not run anew.
func (a *Agent) UpdateCloudInit(ctx context.Context, vmid uint32) error {
	d, err := a.Desired(ctx, strconv.FormatUint(uint64(vmid), 10))
	if err != nil {
		return err
	}
	return errors.Join(a.cloud(vmid).Fill(ctx, d.Config), a.cloud(vmid).Note(d.Config))
}
