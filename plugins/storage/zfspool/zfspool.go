// Package zfspool is the storage type "zfspool": volumes are data sets of a
// local ZFS pool, block devices for VMs and file systems for containers.
//
// It owns their names and the commands that make, change and remove them. A base
// has the snapshot __base__, which clones stand on. It never creates pools, and
// never destroys what is not named as a guest's volume.
package zfspool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// Plugin is the type.
type Plugin struct{ run storage.Runner }

// New returns the type.
func New(run storage.Runner) Plugin { return Plugin{run} }

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.RollbackChecker
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.VolumeActivator
	storage.Featured
} = Plugin{}

// baseSnapshot is the state of a base that clones stand on.
const baseSnapshot = "__base__"

// Parse understands a volume name.
func (Plugin) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "zfs", Names: "vm|base|subvol|basevol", Bases: "base|basevol"}.Parse(name)
}

// Features says what can be done with volumes.
func (Plugin) Features(*storage.Config) storage.Features {
	return storage.Features{
		"snapshot": {"current", "snap"}, "clone": {"base"}, "template": {"current"}, "copy": {"base", "current"},
		"sparseinit": {"base", "current"}, "rename": {"current"},
	}
}

// set is the data set of a volume.
func set(c *storage.Config, file string) string { return c.Value("pool") + "/" + file }

// Path returns the device of a volume, or the directory of a container's.
func (Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if v.Format == "subvol" {
		path := cmp.Or(c.Value("mountpoint"), "/"+c.Value("pool")) + "/" + v.File
		if snapshot != "" {
			path += "/.zfs/snapshot/" + snapshot
		}
		return path, nil
	}
	path := "/dev/zvol/" + set(c, v.File)
	if snapshot != "" {
		path += "@" + snapshot
	}
	return path, nil
}

func (p Plugin) do(ctx context.Context, argv ...string) error {
	_, err := p.run.Run(ctx, host.Command{Argv: argv})
	return err
}

// ask returns the lines that a command prints, cut at tabs.
func (p Plugin) ask(ctx context.Context, argv ...string) (rows [][]string, err error) {
	out, err := p.run.Run(ctx, host.Command{Argv: argv})
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	return rows, err
}

// pool is the pool that a data set is in.
func pool(c *storage.Config) string {
	name, _, _ := strings.Cut(c.Value("pool"), "/")
	return name
}

// Activate imports the pool if it is not there yet, and mounts what is in it.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	if p.do(ctx, "zpool", "list", "-H", "-o", "name", pool(c)) == nil {
		return nil
	}
	if err := p.do(ctx, "zpool", "import", "-d", "/dev/disk/by-id/", "-o", "cachefile=none", pool(c)); err != nil {
		return fmt.Errorf("could not activate storage '%s': %w", c.ID, err)
	}
	return p.do(ctx, "zfs", "mount", "-a")
}

// Deactivate leaves the pool imported: others may use it.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks for the data set that holds the volumes.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (s storage.Status, err error) {
	rows, err := p.ask(ctx, "zfs", "get", "-Hp", "-o", "value", "available,used", c.Value("pool"))
	if err != nil {
		return s, err
	}
	if len(rows) != 2 {
		return s, fmt.Errorf("zfs get: %q", rows)
	}
	s.Available, s.Used = number(rows[0][0]), number(rows[1][0])
	s.Total = s.Available + s.Used
	return s, nil
}

// number reads what ZFS prints, "-" and "none" where something does not apply.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// all returns the volumes of guests.
func (p Plugin) all(ctx context.Context, c *storage.Config) (infos []storage.Info, err error) {
	rows, err := p.ask(ctx, "zfs", "list", "-Hp", "-d", "1", "-t", "volume,filesystem", "-o", "name,volsize,refquota,used,origin,creation", c.Value("pool"))
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		file, below := strings.CutPrefix(row[0], c.Value("pool")+"/")
		v, err := p.Parse(file)
		if !below || err != nil || v.Base != "" || len(row) != 6 {
			continue
		}
		size := row[1]
		if v.Format == "subvol" {
			size = row[2]
		}
		i := storage.Info{Name: file, Format: v.Format, VMID: v.VMID, Size: number(size), Used: number(row[3]), Created: number(row[5])}
		if base, ok := p.baseOf(c, row[4]); ok {
			i.Name, i.Parent = base+"/"+file, base+"@"+baseSnapshot
		}
		infos = append(infos, i)
	}
	return infos, nil
}

// baseOf returns the base that a volume with an origin stands on.
func (p Plugin) baseOf(c *storage.Config, origin string) (string, bool) {
	file, snapshot, _ := strings.Cut(strings.TrimPrefix(origin, c.Value("pool")+"/"), "@")
	v, err := p.Parse(file)
	return file, err == nil && v.IsBase && snapshot == baseSnapshot
}

// List returns the volumes of guests.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	infos, err := p.all(ctx, c)
	return block.Infos(q, infos), err
}

// blocks rounds a size up to whole MiB: no block size of ZFS is larger than what
// that is a multiple of.
func blocks(bytes int64) string { return strconv.FormatInt((bytes+1<<20-1)>>20<<10, 10) + "k" }

// Alloc creates a volume.
func (p Plugin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	prefix := "vm"
	switch r.Format {
	case "subvol":
		prefix = "subvol"
	case "", "raw":
	default:
		return "", fmt.Errorf("unsupported format '%s'", r.Format)
	}
	name, err := p.vacant(ctx, c, r, prefix)
	if err != nil {
		return "", err
	}
	if v, err := p.Parse(name); err != nil || (v.Format == "subvol") != (prefix == "subvol") {
		return "", fmt.Errorf("illegal name '%s' for format '%s'", name, r.Format)
	}
	argv := []string{"zfs", "create"}
	if prefix == "subvol" {
		// What a container's root directory needs; 0 is no limit.
		argv = append(argv, "-o", "acltype=posixacl", "-o", "xattr=sa", "-o", "refquota="+quota(r.Bytes))
	} else {
		if c.Bool("sparse") {
			argv = append(argv, "-s")
		}
		if size := c.Value("blocksize"); size != "" {
			argv = append(argv, "-b", size)
		}
		argv = append(argv, "-V", blocks(r.Bytes))
	}
	return name, p.do(ctx, append(argv, set(c, name))...)
}

func quota(bytes int64) string {
	if bytes == 0 {
		return "none"
	}
	return strconv.FormatInt(block.KiB(bytes), 10) + "k"
}

func (p Plugin) vacant(ctx context.Context, c *storage.Config, r storage.Request, prefix string) (string, error) {
	infos, err := p.all(ctx, c)
	if err != nil {
		return "", err
	}
	var taken []string
	for _, i := range infos {
		taken = append(taken, i.Name[strings.LastIndexByte(i.Name, '/')+1:])
	}
	return block.Name(p, r, prefix, taken)
}

// Free removes a volume with its snapshots.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	infos, err := p.all(ctx, c)
	if err != nil {
		return err
	}
	for _, i := range infos {
		if strings.HasPrefix(i.Name, v.File+"/") {
			return fmt.Errorf("base volume '%s' is still in use by linked clone '%s'", v.File, i.Name)
		}
	}
	return p.do(ctx, "zfs", "destroy", "-r", set(c, v.File))
}

// limit is the property that says how large a volume is.
func limit(v storage.Volume) string {
	if v.Format == "subvol" {
		return "refquota"
	}
	return "volsize"
}

// Size returns the size of a volume in bytes, 0 for a directory without limit.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	rows, err := p.ask(ctx, "zfs", "get", "-Hp", "-o", "value", limit(v), set(c, v.File))
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 {
		return 0, fmt.Errorf("zfs get: %q", rows)
	}
	return number(rows[0][0]), nil
}

// Resize grows a volume.
func (p Plugin) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	size, err := p.Size(ctx, c, v)
	if err == nil {
		err = v.Grows(size, bytes)
	}
	if err != nil {
		return err
	}
	value := blocks(bytes)
	if v.Format == "subvol" {
		value = quota(bytes)
	}
	return p.do(ctx, "zfs", "set", limit(v)+"="+value, set(c, v.File))
}

// Rename gives a volume to a guest.
func (p Plugin) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	prefix, _, _ := strings.Cut(v.File, "-")
	name, err := p.vacant(ctx, c, storage.Request{VMID: vmid, Name: name}, prefix)
	if err != nil {
		return "", err
	}
	if err := p.do(ctx, "zfs", "rename", set(c, v.File), set(c, name)); err != nil {
		return "", err
	}
	if v.Base != "" {
		return v.Base + "/" + name, nil
	}
	return name, nil
}

// ActivateVolume mounts a directory, and waits for a device.
func (p Plugin) ActivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	if v.Format != "subvol" {
		path, err := p.Path(c, v, snapshot)
		if err != nil {
			return err
		}
		return p.do(ctx, "udevadm", "wait", "--timeout=10", path)
	}
	rows, err := p.ask(ctx, "zfs", "get", "-Hp", "-o", "value", "mounted", set(c, v.File))
	if err != nil || len(rows) == 1 && rows[0][0] == "yes" {
		return err
	}
	return p.do(ctx, "zfs", "mount", set(c, v.File))
}

// DeactivateVolume leaves a volume where it is: it is the node's own.
func (Plugin) DeactivateVolume(context.Context, *storage.Config, storage.Volume, string) error {
	return nil
}

// Streams returns the formats for a volume. ZFS's own carries states only; what
// is no state yet becomes one for the time of the transfer.
func (Plugin) Streams(_ *storage.Config, v storage.Volume, s storage.Stream) []string {
	if v.Content != storage.Images {
		return nil
	}
	return append([]string{"zfs"}, block.Streams(v, s)...)
}

// travel is the name of a state that is made for a transfer.
const travel = "__migration__"

// Export writes a volume as a stream.
func (p Plugin) Export(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, to io.Writer) error {
	if !slices.Contains(p.Streams(c, v, s), s.Format) {
		return fmt.Errorf("format %s is not available for '%s'", s.Format, v.Name)
	}
	if s.Format == "raw+size" {
		bytes, err := p.Size(ctx, c, v)
		if err != nil {
			return err
		}
		path, err := p.Path(c, v, s.Snapshot)
		if err != nil {
			return err
		}
		return block.Export(ctx, p.run, path, bytes, to)
	}
	state := cmp.Or(s.Snapshot, travel)
	if s.Snapshot == "" {
		if err := p.Snapshot(ctx, c, v, travel); err != nil {
			return err
		}
	}
	argv := []string{"zfs", "send", "-Rpv"}
	if !s.Snapshots && s.Base == "" {
		argv = []string{"zfs", "send", "-pv"}
	}
	if s.Base != "" {
		flag := "-i"
		if s.Snapshots {
			flag = "-I"
		}
		argv = append(argv, flag, s.Base)
	}
	_, err := p.run.Run(ctx, host.Command{Argv: append(argv, "--", set(c, v.File)+"@"+state), Output: to})
	if s.Snapshot == "" {
		err = errors.Join(err, p.DeleteSnapshot(context.WithoutCancel(ctx), c, v, travel))
	}
	return err
}

// Import creates a volume from a stream, or continues one.
func (p Plugin) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	if !slices.Contains(p.Streams(c, v, s), s.Format) || v.Base != "" {
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	}
	if s.Format == "raw+size" {
		return block.Import(ctx, p.run, p, c, v, true, from)
	}
	infos, err := p.all(ctx, c)
	if err != nil {
		return err
	}
	exists := slices.ContainsFunc(infos, func(i storage.Info) bool { return i.Name == v.File })
	switch {
	case exists && s.Base == "":
		return fmt.Errorf("volume '%s' already exists", v.Name)
	case exists:
		if err := p.Rollback(ctx, c, v, s.Base); err != nil {
			return err
		}
	case s.Base != "":
		return fmt.Errorf("volume '%s' does not exist: its state '%s' is missing", v.Name, s.Base)
	}
	if _, err := p.run.Run(ctx, host.Command{Argv: []string{"zfs", "recv", "-F", "--", set(c, v.File)}, Input: from}); err != nil {
		if !exists {
			err = errors.Join(err, p.do(context.WithoutCancel(ctx), "zfs", "destroy", "-r", set(c, v.File)))
		}
		return err
	}
	if s.Snapshot == "" {
		return p.DeleteSnapshot(ctx, c, v, travel)
	}
	return nil
}
