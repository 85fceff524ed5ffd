// Package lvm is the types of storage whose volumes are logical volumes: "lvm",
// where each has its space from the start, and "lvmthin", where they share a
// pool and have snapshots and clones.
//
// It owns their names and the commands that make, change and remove them. Only
// volumes with the name or tag of a guest are ever listed or removed: a group
// may hold the system as well. It never creates volume groups or pools.
package lvm

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// LVM is the type "lvm".
type LVM struct{ tools }

// New returns the type "lvm".
func New(run storage.Runner) LVM { return LVM{tools{run}} }

var _ interface {
	storage.Plugin
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.VolumeActivator
	storage.Featured
} = LVM{}

// Parse understands a volume name.
func (LVM) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "lvm", Names: "vm"}.Parse(name)
}

// Features says what can be done with volumes.
func (LVM) Features(*storage.Config) storage.Features {
	return storage.Features{"copy": {"base", "current"}, "rename": {"current"}}
}

// Path returns the device of a volume.
func (LVM) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if snapshot != "" {
		return "", fmt.Errorf("snapshots of LVM volumes are %w", storage.ErrUnsupported)
	}
	return device(c, v.File), nil
}

func device(c *storage.Config, name string) string { return "/dev/" + c.Value("vgname") + "/" + name }

// Activate sees whether the volume group is there. Its volumes are activated
// one by one.
func (p LVM) Activate(ctx context.Context, c *storage.Config) error {
	_, err := p.group(ctx, c.Value("vgname"))
	return err
}

// Deactivate gives up the devices of the volumes that nobody has open; LVM keeps
// the others.
func (p LVM) Deactivate(ctx context.Context, c *storage.Config) error {
	return p.do(ctx, "vgchange", "-aln", c.Value("vgname"))
}

// Status asks for the volume group.
func (p LVM) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	g, err := p.group(ctx, c.Value("vgname"))
	if err != nil {
		return storage.Status{}, err
	}
	size, free := number(g.Size), number(g.Free)
	return storage.Status{Total: size, Used: size - free, Available: free}, nil
}

// List returns the volumes of guests: no thin ones, pools, snapshots or mirrors.
func (p LVM) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	return p.guests(ctx, c, q, p, func(l logical, v storage.Volume) bool {
		return strings.HasPrefix(l.Attr, "-") && (!c.Bool("tagged_only") || l.tagged(v.VMID))
	})
}

// Alloc creates a volume.
func (p LVM) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	if err := onlyRaw(r.Format); err != nil {
		return "", err
	}
	vg := c.Value("vgname")
	name, err := p.vacant(ctx, c, p, r)
	if err != nil {
		return "", err
	}
	g, err := p.group(ctx, vg)
	if err == nil && r.Bytes > number(g.Free) {
		err = fmt.Errorf("not enough free space (%d bytes) in volume group '%s'", number(g.Free), vg)
	}
	if err != nil {
		return "", err
	}
	// Old signatures on the space would be found by whoever looks for disks.
	return name, p.do(ctx, "lvcreate", "-aly", "-Wy", "--yes", "--size", kib(r.Bytes), "--name", name, "--addtag", tag(r.VMID), vg)
}

func kib(bytes int64) string { return strconv.FormatInt(block.KiB(bytes), 10) + "k" }

func onlyRaw(format string) error {
	if format != "" && format != "raw" {
		return fmt.Errorf("unsupported format '%s'", format)
	}
	return nil
}

// Free removes a volume, with its content if the storage asks for that.
func (p LVM) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	vg := c.Value("vgname")
	if _, err := p.volume(ctx, vg, v.File); err != nil {
		return err
	}
	if !c.Bool("saferemove") {
		return p.do(ctx, "lvremove", "-f", vg+"/"+v.File)
	}
	// Under a name that is no guest's, a removal that is cut short is seen, and
	// the name is free at once.
	doomed := "del-" + v.File
	if err := p.do(ctx, "lvrename", vg, v.File, doomed); err != nil {
		return err
	}
	if err := p.do(ctx, "lvchange", "-aly", vg+"/"+doomed); err != nil {
		return err
	}
	if err := p.do(ctx, wipe(c, device(c, doomed))...); err != nil {
		return err
	}
	return p.do(ctx, "lvremove", "-f", vg+"/"+doomed)
}

// wipe is the command that overwrites a device with zeros, step by step and no
// faster than the storage allows.
func wipe(c *storage.Config, path string) []string {
	step := c.Value("saferemove-stepsize")
	if step == "" {
		step = "32"
	}
	if limit := c.Value("saferemove_throughput"); limit != "" {
		return []string{"cstream", "-i", "/dev/zero", "-o", path, "-T", "10", "-v", "1", "-b", "1048576", "-t", limit}
	}
	return []string{"blkdiscard", "--zeroout", "--step", step + "M", path}
}

// Rename gives a volume to a guest.
func (p LVM) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	return p.rename(ctx, c, p, v, vmid, name)
}

// ActivateVolume makes the device of a volume exist.
func (p LVM) ActivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	if _, err := p.Path(c, v, snapshot); err != nil {
		return err
	}
	path := c.Value("vgname") + "/" + v.File
	if err := p.do(ctx, "lvchange", "-aly", path); err != nil {
		return err
	}
	// Another node may have changed its size while the device was here.
	return p.do(ctx, "lvchange", "--refresh", path)
}

// DeactivateVolume gives the device up.
func (p LVM) DeactivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, _ string) error {
	return p.do(ctx, "lvchange", "-aln", c.Value("vgname")+"/"+v.File)
}

// Streams returns the formats for a volume.
func (LVM) Streams(_ *storage.Config, v storage.Volume, s storage.Stream) []string {
	if s.Snapshot != "" {
		return nil
	}
	return block.Streams(v, s)
}

// Export writes a volume as a stream.
func (p LVM) Export(ctx context.Context, c *storage.Config, v storage.Volume, _ storage.Stream, to io.Writer) error {
	bytes, err := p.Size(ctx, c, v)
	if err != nil {
		return err
	}
	if err := p.ActivateVolume(ctx, c, v, ""); err != nil {
		return err
	}
	return block.Export(ctx, p.run, device(c, v.File), bytes, to)
}

// Import creates a volume from a stream.
func (p LVM) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	if !slices.Contains(p.Streams(c, v, s), s.Format) {
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	}
	return block.Import(ctx, p.run, p, c, v, false, from)
}
