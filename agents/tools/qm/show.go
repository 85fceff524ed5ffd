package qm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// Defaults of Proxmox VE for settings that are not there.
const (
	defaultMemory = 512 // MiB
	mib           = 1 << 20
	gib           = 1 << 30
)

func (p Place) list(ctx context.Context, c *cli.Call) error {
	vmids, err := p.vmids()
	if err != nil || len(vmids) == 0 {
		return err
	}
	fmt.Fprintf(c.Out, "%10s %-20s %-10s %-10s %12s %-10s\n", "VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID")
	for _, vmid := range vmids {
		v, err := p.load(vmid)
		if err != nil {
			fmt.Fprintln(c.Err, err)
			continue
		}
		o := p.observe(ctx, vmid)
		state := o.plain()
		if c.Bool("full") {
			state = o.status
		}
		fmt.Fprintf(c.Out, "%10d %-20s %-10s %-10d %12.2f %-10d\n", vmid, v.name(), state, v.memory(), float64(v.bootDisk())/gib, o.process.PID)
	}
	return nil
}

// vmids lists the VMs of this node in order.
func (p Place) vmids() (vmids []uint32, err error) {
	dir := "nodes/" + p.Node + "/" + layout.QEMU.Dir()
	entries, err := os.ReadDir(filepath.Join(p.Tree, dir))
	for _, e := range entries {
		if g, ok := layout.GuestOf(dir + "/" + e.Name()); ok {
			vmids = append(vmids, g.VMID)
		}
	}
	slices.Sort(vmids)
	return vmids, err
}

func (v vm) name() string {
	if name := v.Main.Get("name"); name != "" {
		return name
	}
	return fmt.Sprintf("VM %d", v.VMID)
}

// memory is what the guest has at most, in MiB.
func (v vm) memory() int {
	values, err := v.Main.Values(layout.QEMU, "memory")
	if err != nil || values["current"] == "" {
		return defaultMemory
	}
	var mebibytes int
	if _, err := fmt.Sscan(values["current"], &mebibytes); err != nil {
		return defaultMemory
	}
	return mebibytes
}

// bootDisk is the size of the disk the guest boots from, in bytes; 0 if the
// configuration does not tell.
func (v vm) bootDisk() int64 {
	boot, _ := v.Main.Values(layout.QEMU, "boot") // what cannot be read names no disk
	keys := append(schema.SplitList(boot["order"]), v.Main.Get("bootdisk"))
	for _, volume := range guest.Volumes(layout.QEMU, v.Main) {
		keys = append(keys, volume.Key)
	}
	for _, key := range keys {
		value, there := v.Main.Lookup(key)
		volume, err := guest.ParseVolume(layout.QEMU, key, value)
		if !there || err != nil || volume.IsCDROM() || volume.IsCloudInit() {
			continue
		}
		size, _ := schema.ParseSize(volume.Options["size"]) // 0 if it is not known
		return size
	}
	return 0
}

func (p Place) status(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	o := p.observe(ctx, v.VMID)
	if !c.Bool("verbose") {
		fmt.Fprintf(c.Out, "status: %s\n", o.plain())
		return nil
	}
	p.figures(ctx, v, o).Print(c.Out, "")
	return nil
}

// cpus is how many virtual CPUs run.
func (v vm) cpus() int {
	if n := v.Main.Int(layout.QEMU, "vcpus"); n > 0 {
		return n
	}
	return max(1, v.Main.Int(layout.QEMU, "sockets")) * max(1, v.Main.Int(layout.QEMU, "cores"))
}

func (p Place) showcmd(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	agent, err := p.reader()
	if err != nil {
		return err
	}
	command, err := agent.Command(ctx, v.VMID, c.Value("snapshot"))
	if err != nil {
		return err
	}
	separator := " "
	if c.Bool("pretty") {
		separator = " \\\n  "
	}
	// An option and its value stay together.
	line := host.Quote(command.Binary)
	for i, arg := range command.Args {
		if i > 0 && !strings.HasPrefix(arg, "-") {
			line += " " + host.Quote(arg)
		} else {
			line += separator + host.Quote(arg)
		}
	}
	fmt.Fprintln(c.Out, line)
	return nil
}
