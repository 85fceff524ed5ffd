// Package btrfs is the storage type "btrfs": a directory as plugins/storage/dir
// has it, in which volumes of the formats raw and subvol are subvolumes of Btrfs
// with snapshots and clones.
//
// A volume 100/vm-100-disk-0.raw is the file disk.raw in the subvolume
// images/100/vm-100-disk-0, and its state "one" the subvolume
// images/100/vm-100-disk-0@one; a directory of a container is the subvolume
// images/100/subvol-100-disk-0.subvol.
//
// It owns those subvolumes. Everything else in the directory is that of
// plugins/storage/dir. It never creates a file system.
package btrfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// Plugin is the type.
type Plugin struct{ dir.Plugin }

// New returns the type.
func New(run storage.Runner) Plugin { return Plugin{dir.Plugin{Run: run}} }

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.Locator
	storage.Featured
} = Plugin{}

// disk is the file in the subvolume of a raw volume.
const disk = "disk.raw"

// ours reports whether a volume is a subvolume.
func ours(v storage.Volume) bool {
	return v.Content == storage.Images && (v.Format == "raw" || v.Format == "subvol")
}

// Features says what can be done with volumes.
func (p Plugin) Features(c *storage.Config) storage.Features {
	f := p.Plugin.Features(c)
	more := func(ability string, states ...string) {
		f[ability] = append(slices.Clone(f[ability]), states...)
	}
	more("snapshot", "current:raw", "current:subvol", "snap:raw", "snap:subvol")
	more("clone", "base:subvol", "snap:raw", "snap:subvol")
	more("copy", "snap:raw", "snap:subvol")
	return f
}

// subvolume is the path of the subvolume of a volume, or of its snapshot.
func (p Plugin) subvolume(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	path, err := p.Plugin.Path(c, v, "")
	path = strings.TrimSuffix(path, ".raw")
	if snapshot != "" {
		path += "@" + snapshot
	}
	return path, err
}

// Path returns the file or directory of a volume, or of a snapshot.
func (p Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if !ours(v) {
		return p.Plugin.Path(c, v, snapshot)
	}
	path, err := p.subvolume(c, v, snapshot)
	if v.Format == "raw" {
		path = filepath.Join(path, disk)
	}
	return path, err
}

// btrfsMagic is what statfs says of Btrfs.
const btrfsMagic = 0x9123683e

// Activate creates the directories of the content types, and refuses another
// file system.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	if err := p.Plugin.Activate(ctx, c); err != nil {
		return err
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(c.Path(), &s); err != nil {
		return fmt.Errorf("%s: %w", c.Path(), err)
	}
	if s.Type != btrfsMagic {
		return fmt.Errorf("'%s' is not on a Btrfs file system", c.Path())
	}
	return nil
}

func (p Plugin) btrfs(ctx context.Context, argv ...string) error {
	_, err := p.Run.Run(ctx, host.Command{Argv: append([]string{"btrfs", "-q"}, argv...)})
	return err
}

// List returns the volumes of a content type.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	all, err := p.Plugin.List(ctx, c, q)
	if err != nil || q.Content != storage.Images && q.Content != storage.Rootdir {
		return all, err
	}
	images, err := c.Subdir(storage.Images)
	if err != nil {
		return nil, err
	}
	// To plugins/storage/dir, the subvolume of a raw volume is no image.
	found, err := filepath.Glob(filepath.Join(escape(images), "[1-9]*", "*", disk))
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		subvolume := filepath.Dir(path)
		owner := filepath.Base(filepath.Dir(subvolume))
		v, err := p.Parse(owner + "/" + filepath.Base(subvolume) + ".raw")
		if err != nil || strings.Contains(v.File, "@") || !q.Wants(v.VMID) {
			continue
		}
		var s syscall.Stat_t
		if syscall.Stat(path, &s) != nil {
			continue // removed meanwhile
		}
		all = append(all, storage.Info{Name: v.Name, Content: q.Of(v.VMID), Format: "raw", VMID: v.VMID,
			Size: s.Size, Used: s.Blocks * 512, Created: s.Ctim.Sec})
	}
	slices.SortFunc(all, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// escape makes a path mean itself in a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// place chooses the name of a new volume and makes sure that it is vacant.
func (p Plugin) place(ctx context.Context, c *storage.Config, r storage.Request) (v storage.Volume, path string, err error) {
	if r.Name == "" {
		if r.Name, err = p.freeName(ctx, c, r); err != nil {
			return v, "", err
		}
	}
	if v, _, err = p.Place(c, r); err != nil {
		return v, "", err
	}
	path, err = p.subvolume(c, v, "")
	if err == nil {
		if _, e := os.Lstat(path); !errors.Is(e, fs.ErrNotExist) {
			err = fmt.Errorf("disk image '%s' already exists", path)
		}
	}
	return v, path, err
}

func (p Plugin) freeName(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	every := func(uint32) bool { return false }
	all, err := p.List(ctx, c, storage.Query{Content: storage.Images, VMID: r.VMID, Containers: every})
	if err != nil {
		return "", err
	}
	var taken []string
	for _, i := range all {
		taken = append(taken, i.Name[strings.LastIndexByte(i.Name, '/')+1:])
	}
	prefix := "vm"
	if r.Format == "subvol" {
		prefix = "subvol"
	}
	return storage.FreeName(prefix, r.VMID, "."+r.Format, taken)
}

// Alloc creates a volume.
func (p Plugin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	r.Format = cmp.Or(r.Format, c.Value("format"), "raw")
	if r.Format != "raw" && r.Format != "subvol" {
		return p.Plugin.Alloc(ctx, c, r)
	}
	if r.Format == "subvol" && r.Bytes != 0 {
		return "", errors.New("storage does not support subvol quotas")
	}
	v, path, err := p.place(ctx, c, r)
	if err != nil {
		return "", err
	}
	if err := p.btrfs(ctx, "subvolume", "create", path); err != nil {
		return "", err
	}
	if r.Format == "raw" {
		if err := p.newDisk(ctx, c, path, r.Bytes); err != nil {
			return "", errors.Join(err, p.btrfs(context.WithoutCancel(ctx), "subvolume", "delete", path))
		}
	}
	return v.Name, nil
}

// newDisk creates the file of a raw volume.
func (p Plugin) newDisk(ctx context.Context, c *storage.Config, subvolume string, bytes int64) error {
	argv := [][]string{{"qemu-img", "create", "-q", "-f", "raw", "-o", dir.Preallocation(c, "raw"), filepath.Join(subvolume, disk), strconv.FormatInt(bytes, 10)}}
	if c.Bool("nocow") {
		// Only a file that is empty can be freed of checksums and copies: let it
		// inherit that.
		argv = slices.Insert(argv, 0, []string{"chattr", "+C", subvolume})
	}
	for _, a := range argv {
		if _, err := p.Run.Run(ctx, host.Command{Argv: a}); err != nil {
			return err
		}
	}
	return nil
}

// states returns the names of a volume's snapshots, sorted.
func (p Plugin) states(c *storage.Config, v storage.Volume) (names []string, err error) {
	path, err := p.subvolume(c, v, "")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+"@"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Free removes a volume with its snapshots. Clones of a base do not need it.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	if !ours(v) {
		return p.Plugin.Free(ctx, c, v)
	}
	if err := p.FreeOfClones(c, v); err != nil { // of the format qcow2, which need it
		return err
	}
	path, err := p.subvolume(c, v, "")
	if err == nil {
		_, err = os.Lstat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("disk image '%s' does not exist", path)
	}
	if err != nil {
		return err
	}
	states, err := p.states(c, v)
	if err != nil {
		return err
	}
	for _, name := range states {
		if err := p.btrfs(ctx, "subvolume", "delete", path+"@"+name); err != nil {
			return err
		}
	}
	if err := p.btrfs(ctx, "subvolume", "delete", path); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(path)) // succeeds once the guest has no more volumes
	return nil
}

// Size returns the size of a volume in bytes.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	if !ours(v) || v.Format == "subvol" {
		return p.Plugin.Size(ctx, c, v)
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Resize grows a volume.
func (p Plugin) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	if !ours(v) || v.Format == "subvol" {
		return p.Plugin.Resize(ctx, c, v, bytes)
	}
	size, err := p.Size(ctx, c, v)
	if err == nil {
		err = v.Grows(size, bytes)
	}
	if err != nil {
		return err
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	return os.Truncate(path, bytes)
}

// Rename gives a volume to a guest, with its snapshots.
func (p Plugin) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	if !ours(v) {
		return p.Plugin.Rename(ctx, c, v, vmid, name)
	}
	if v.IsBase {
		return "", fmt.Errorf("'%s' cannot have another owner", v.Name)
	}
	renamed, to, err := p.place(ctx, c, storage.Request{VMID: vmid, Name: name, Format: v.Format})
	if err != nil {
		return "", err
	}
	return renamed.Name, p.move(c, v, to)
}

// move gives the subvolume of a volume another path, and its snapshots too.
func (p Plugin) move(c *storage.Config, v storage.Volume, to string) error {
	from, err := p.subvolume(c, v, "")
	if err != nil {
		return err
	}
	states, err := p.states(c, v)
	if err != nil {
		return err
	}
	for _, name := range states {
		if err := os.Rename(from+"@"+name, to+"@"+name); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(from)) // succeeds once the guest has no more volumes
	return nil
}

// exchange swaps what is at two paths, with no moment in which one is missing.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
