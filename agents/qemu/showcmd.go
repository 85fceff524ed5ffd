package qemu

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"etcpve/agents/qemu/cmdline"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Command returns the command line a VM, or a snapshot of it, would be started
// with now.
func (a *Agent) Command(ctx context.Context, vmid uint32, snapshot string) (cmdline.Command, error) {
	d, err := a.Desired(ctx, strconv.FormatUint(uint64(vmid), 10))
	if err == nil && d.Text == nil {
		err = fmt.Errorf("%s: %w", a.confPath(vmid), os.ErrNotExist)
	}
	if err == nil && snapshot != "" {
		file, _ := guestfile.Parse(layout.QEMU, vmid, string(d.Text))
		if file.Main = file.Snapshots[snapshot]; file.Main == nil {
			return cmdline.Command{}, fmt.Errorf("snapshot '%s' does not exist", snapshot)
		}
		d.Config = settings(file)
	}
	if err != nil {
		return cmdline.Command{}, err
	}
	facts, _, err := a.hostFor(ctx, d.Config)
	if err != nil {
		return cmdline.Command{}, a.at(d, err)
	}
	command, err := cmdline.Build(a.guestOf(ctx, vmid, d.Config), facts)
	if err != nil {
		return cmdline.Command{}, a.at(d, err)
	}
	return command, nil
}
