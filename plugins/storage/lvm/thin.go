package lvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// Thin is the type "lvmthin".
type Thin struct{ tools }

// NewThin returns the type "lvmthin".
func NewThin(run storage.Runner) Thin { return Thin{tools{run}} }

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.VolumeActivator
	storage.Featured
} = Thin{}

// Parse understands a volume name.
func (Thin) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "lvm", Names: "vm|base"}.Parse(name)
}

// Features says what can be done with volumes.
func (Thin) Features(*storage.Config) storage.Features {
	return storage.Features{
		"snapshot": {"current"}, "clone": {"base", "snap"}, "template": {"current"},
		"copy": {"base", "current", "snap"}, "sparseinit": {"base", "current"}, "rename": {"current"},
	}
}

// lvOf is the logical volume of a volume, or of its snapshot.
func lvOf(v storage.Volume, snapshot string) string {
	if snapshot == "" {
		return v.File
	}
	return "snap_" + v.File + "_" + snapshot
}

// Path returns the device of a volume, or of a snapshot.
func (Thin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	return device(c, lvOf(v, snapshot)), nil
}

// Activate sees whether the pool is there.
func (p Thin) Activate(ctx context.Context, c *storage.Config) error {
	l, err := p.volume(ctx, c.Value("vgname"), c.Value("thinpool"))
	if err == nil && !strings.HasPrefix(l.Attr, "t") {
		err = fmt.Errorf("%s/%s is no thin pool", c.Value("vgname"), l.Name)
	}
	if err == nil && !l.active() {
		err = p.do(ctx, "lvchange", "-ay", "-K", c.Value("vgname")+"/"+l.Name)
	}
	return err
}

// Deactivate leaves the devices: pools are the node's own.
func (Thin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks for the pool.
func (p Thin) Status(ctx context.Context, c *storage.Config) (s storage.Status, err error) {
	l, err := p.volume(ctx, c.Value("vgname"), c.Value("thinpool"))
	if err != nil {
		return s, err
	}
	percent, err := strconv.ParseFloat(l.Data, 64)
	if err != nil {
		return s, fmt.Errorf("%s: data_percent '%s'", l.Name, l.Data)
	}
	s.Total = number(l.Size)
	s.Used = int64(float64(s.Total) * percent / 100)
	s.Available = s.Total - s.Used
	return s, nil
}

// List returns the volumes of guests in the pool.
func (p Thin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	return p.guests(ctx, c, q, p, func(l logical, _ storage.Volume) bool {
		return l.Pool == c.Value("thinpool") && strings.HasPrefix(l.Attr, "V")
	})
}

// Alloc creates a volume.
func (p Thin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	if err := onlyRaw(r.Format); err != nil {
		return "", err
	}
	name, err := p.vacant(ctx, c, p, r)
	if err != nil {
		return "", err
	}
	return name, p.do(ctx, "lvcreate", "-aly", "--virtualsize", kib(r.Bytes), "--name", name, "--addtag", tag(r.VMID),
		"--thinpool", c.Value("vgname")+"/"+c.Value("thinpool"))
}

// snapshotsOf returns the snapshots of a volume among all. The name of a volume
// may go on where that of another ends.
func snapshotsOf(file string, all []logical) (found []string) {
	for _, l := range all {
		other := func(o logical) bool {
			return strings.HasPrefix(o.Name, file+"_") && strings.HasPrefix(l.Name, "snap_"+o.Name+"_")
		}
		if strings.HasPrefix(l.Name, "snap_"+file+"_") && !slices.ContainsFunc(all, other) {
			found = append(found, l.Name)
		}
	}
	return found
}

// Free removes a volume with its snapshots. LVM would let a base go while clones
// of it remain; nobody could tell then what they were made of.
func (p Thin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	vg := c.Value("vgname")
	all, err := p.volumes(ctx, vg)
	if err != nil {
		return err
	}
	if !slices.Contains(names(all), v.File) {
		return fmt.Errorf("no such logical volume %s/%s", vg, v.File)
	}
	if i := slices.IndexFunc(all, func(l logical) bool { return v.IsBase && l.Origin == v.File }); i >= 0 {
		return fmt.Errorf("base volume '%s' is still in use by linked clone '%s'", v.File, all[i].Name)
	}
	for _, name := range append(snapshotsOf(v.File, all), v.File) {
		if err := p.do(ctx, "lvremove", "-f", vg+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// Rename gives a volume to a guest.
func (p Thin) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	return p.rename(ctx, c, p, v, vmid, name)
}

// Snapshot keeps the state of a volume as a volume that cannot be written.
func (p Thin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.do(ctx, "lvcreate", "--name", lvOf(v, name), "--permission", "r", "--snapshot", c.Value("vgname")+"/"+v.File)
}

// DeleteSnapshot removes a state.
func (p Thin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.do(ctx, "lvremove", "-f", c.Value("vgname")+"/"+lvOf(v, name))
}

// Rollback puts a copy of a state in the place of the volume. The volume goes
// only when the copy is there.
func (p Thin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	vg, copied := c.Value("vgname"), "roll_"+v.File
	if err := p.do(ctx, "lvcreate", "--setactivationskip", "n", "--permission", "rw", "--name", copied, "--addtag", tag(v.VMID),
		"--snapshot", vg+"/"+lvOf(v, name)); err != nil {
		return err
	}
	if err := p.do(ctx, "lvremove", "-f", vg+"/"+v.File); err != nil {
		return errors.Join(err, p.do(ctx, "lvremove", "-f", vg+"/"+copied))
	}
	return p.do(ctx, "lvrename", vg, copied, v.File)
}

// CreateBase renames a volume and forbids to write it.
func (p Thin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	vg := c.Value("vgname")
	file, plain := strings.CutPrefix(v.File, "vm-")
	if !plain || v.Base != "" {
		return "", fmt.Errorf("create_base not possible with '%s'", v.Name)
	}
	all, err := p.volumes(ctx, vg)
	if err != nil {
		return "", err
	}
	if found := snapshotsOf(v.File, all); len(found) > 0 {
		return "", fmt.Errorf("unable to create base volume - found snapshot '%s'", found[0])
	}
	base := "base-" + file
	if err := p.do(ctx, "lvrename", vg, v.File, base); err != nil {
		return "", err
	}
	// LVM does not change the permission of a volume that is in use.
	return base, p.do(ctx, "lvchange", "-an", "-ky", "-pr", vg+"/"+base)
}

// Clone creates a volume on top of a base or of a snapshot.
func (p Thin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	if snapshot == "" && !v.IsBase {
		return "", errors.New("clone_image only works on base images")
	}
	name, err := p.vacant(ctx, c, p, storage.Request{VMID: vmid})
	if err != nil {
		return "", err
	}
	return name, p.do(ctx, "lvcreate", "--setactivationskip", "n", "--permission", "rw", "--name", name, "--addtag", tag(vmid),
		"--snapshot", c.Value("vgname")+"/"+lvOf(v, snapshot))
}

// ActivateVolume makes a device exist. Snapshots and bases are not activated
// unless asked by name.
func (p Thin) ActivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	argv := []string{"lvchange", "-ay"}
	if snapshot != "" || v.IsBase {
		argv = append(argv, "-K")
	}
	return p.do(ctx, append(argv, c.Value("vgname")+"/"+lvOf(v, snapshot))...)
}

// DeactivateVolume leaves a volume's device, which is the node's own, and gives
// that of a snapshot up.
func (p Thin) DeactivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	if snapshot == "" {
		return nil
	}
	return p.do(ctx, "lvchange", "-an", c.Value("vgname")+"/"+lvOf(v, snapshot))
}

// Streams returns the formats for a volume.
func (Thin) Streams(_ *storage.Config, v storage.Volume, s storage.Stream) []string {
	return block.Streams(v, s)
}

// Export writes a volume, or a snapshot, as a stream.
func (p Thin) Export(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, to io.Writer) error {
	l, err := p.volume(ctx, c.Value("vgname"), lvOf(v, s.Snapshot))
	if err != nil {
		return err
	}
	if err := p.ActivateVolume(ctx, c, v, s.Snapshot); err != nil {
		return err
	}
	err = block.Export(ctx, p.run, device(c, l.Name), number(l.Size), to)
	return errors.Join(err, p.DeactivateVolume(ctx, c, v, s.Snapshot))
}

// Import creates a volume from a stream.
func (p Thin) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	if s.Snapshot = ""; !slices.Contains(p.Streams(c, v, s), s.Format) {
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	}
	return block.Import(ctx, p.run, p, c, v, true, from)
}
