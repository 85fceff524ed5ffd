package dir

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

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/storage/image"
)

// run runs a command whose output does not matter.
func (p Plugin) run(ctx context.Context, argv ...string) error {
	_, err := p.Run.Run(ctx, host.Command{Argv: argv})
	return err
}

// Alloc creates an image, or an empty directory for a container.
func (p Plugin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	r.Format = cmp.Or(r.Format, c.Value("format"), "raw")
	v, path, err := p.Place(c, r)
	if err != nil {
		return "", err
	}
	if r.Format == "subvol" {
		if r.Bytes != 0 {
			return "", errors.New("storage does not support subvol quotas")
		}
		return v.Name, os.Mkdir(path, 0o755)
	}
	return v.Name, p.run(ctx, slices.Concat([]string{"qemu-img", "create"}, options(c, r.Format),
		[]string{"-f", r.Format, path, strconv.FormatInt(r.Bytes, 10)})...)
}

// Place chooses the name of a new volume, makes sure that it is free, and
// creates the directory of its guest.
func (p Plugin) Place(c *storage.Config, r storage.Request) (storage.Volume, string, error) {
	if r.Name == "" {
		prefix := "vm"
		if r.Format == "subvol" {
			prefix = "subvol"
		}
		var err error
		if r.Name, err = p.freeName(c, prefix, r.VMID, "."+r.Format); err != nil {
			return storage.Volume{}, "", err
		}
	}
	v, err := storage.ParseFile(fmt.Sprintf("%d/%s", r.VMID, r.Name))
	if err != nil {
		return v, "", fmt.Errorf("illegal name '%s': %w", r.Name, err)
	}
	if v.Content != storage.Images || v.Base != "" || v.Format != r.Format {
		return v, "", fmt.Errorf("illegal name '%s' - wrong extension for format ('%s')", r.Name, r.Format)
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return v, "", err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return v, "", fmt.Errorf("disk image '%s' already exists", path)
	}
	return v, path, os.MkdirAll(filepath.Dir(path), 0o755)
}

func (p Plugin) freeName(c *storage.Config, prefix string, vmid uint32, extension string) (string, error) {
	images, err := c.Subdir(storage.Images)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(imageDir(images, vmid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return storage.FreeName(prefix, vmid, extension, names)
}

// Preallocation returns the option of qemu-img for the setting of that name. Raw
// images have no metadata to be allocated before.
func Preallocation(c *storage.Config, format string) string {
	mode := c.Preallocation()
	if format == "raw" && mode == "metadata" {
		mode = "off"
	}
	return "preallocation=" + mode
}

// options returns the options of "qemu-img create". To vmdk, preallocation means
// something else.
func options(c *storage.Config, format string) []string {
	if format == "vmdk" {
		return nil
	}
	return []string{"-o", Preallocation(c, format)}
}

// Free removes a volume with the files that belong to it.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	switch v.Content {
	case storage.Backup:
		return p.freeBackup(path, v)
	case storage.Images:
	default:
		return os.Remove(path)
	}
	if err := p.FreeOfClones(c, v); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("disk image '%s' does not exist", path)
	}
	if err == nil && info.IsDir() != (v.Format == "subvol") {
		err = fmt.Errorf("'%s' is no %s", path, v.Format)
	}
	if err != nil {
		return err
	}
	p.immutable(ctx, v, path, "-i")
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if chained(c, v) {
		if err := freeStates(path); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Dir(path)) // succeeds once the guest has no more volumes
	return nil
}

// FreeOfClones refuses to give up a base that linked clones stand on.
func (p Plugin) FreeOfClones(c *storage.Config, v storage.Volume) error {
	if !v.IsBase {
		return nil
	}
	all, err := p.listImages(c, storage.Query{Content: storage.Images})
	if err != nil {
		return err
	}
	for _, i := range all {
		if strings.HasPrefix(i.Name, fmt.Sprintf("%d/%s/", v.VMID, v.File)) {
			return fmt.Errorf("base volume '%s' is still in use by linked clone '%s'", v.File, i.Name)
		}
	}
	return nil
}

// immutable guards the files of bases against mistakes. Not every file system
// can; it is no more than a second net.
func (p Plugin) immutable(ctx context.Context, v storage.Volume, path, flag string) {
	if v.IsBase && v.Format != "subvol" {
		_ = p.run(ctx, "chattr", flag, path)
	}
}

func (p Plugin) freeBackup(path string, v storage.Volume) error {
	if _, protected := statOf(path + ".protected"); protected {
		return fmt.Errorf("can't remove protected archive '%s'", v.File)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	beside := []string{path + ".notes"}
	if a, err := storage.ParseArchive(v.File, p.zone()); err == nil && a.Standard {
		beside = append(beside, filepath.Join(filepath.Dir(path), a.Log))
	}
	for _, name := range beside {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Size returns the virtual size of an image, or the size of a file.
func (p Plugin) Size(_ context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	path, err := p.Path(c, v, "")
	if err != nil {
		return 0, err
	}
	if v.Format == "subvol" {
		return 0, nil // a directory has no limit
	}
	format := v.Format
	if v.Content != storage.Images && v.Content != storage.Import {
		format = "raw"
	}
	if format == "ova" || format == "ovf" {
		format = "raw" // it holds images, but is none
	}
	head, err := image.Read(path, format)
	return head.Size, err
}

// Resize grows an image.
func (p Plugin) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	if v.Content != storage.Images || v.Format == "subvol" {
		return fmt.Errorf("can't resize this image format")
	}
	size, err := p.Size(ctx, c, v)
	if err == nil {
		err = v.Grows(size, bytes)
	}
	if err != nil {
		return err
	}
	return p.run(ctx, "qemu-img", "resize", "-f", v.Format, path, strconv.FormatInt(bytes, 10))
}

// Snapshot keeps the state of an image, inside it or as a file.
func (p Plugin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if chained(c, v) {
		return p.extend(ctx, c, v, name)
	}
	return p.snapshot(ctx, c, v, "-c", name)
}

// DeleteSnapshot removes a state.
func (p Plugin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if chained(c, v) {
		return p.shorten(ctx, c, v, name)
	}
	return p.snapshot(ctx, c, v, "-d", name)
}

// Rollback returns an image to a state.
func (p Plugin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if chained(c, v) {
		return p.rewind(ctx, c, v, name)
	}
	return p.snapshot(ctx, c, v, "-a", name)
}

func (p Plugin) snapshot(ctx context.Context, c *storage.Config, v storage.Volume, flag, name string) error {
	path, err := p.Path(c, v, name)
	if err != nil {
		return err
	}
	return p.run(ctx, "qemu-img", "snapshot", flag, name, path)
}

// CreateBase renames a volume to a base and guards it against writing.
func (p Plugin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	base, err := p.RenameToBase(c, v)
	if err != nil {
		return "", err
	}
	path, err := p.Path(c, base, "")
	if err == nil && base.Format != "subvol" {
		err = os.Chmod(path, 0o444)
	}
	if err != nil {
		return "", err
	}
	p.immutable(ctx, base, path, "+i")
	return base.Name, nil
}

// RenameToBase gives a volume the name of a base.
func (p Plugin) RenameToBase(c *storage.Config, v storage.Volume) (storage.Volume, error) {
	switch {
	case v.Content != storage.Images:
		return v, fmt.Errorf("create_base not possible with '%s'", v.Name)
	case v.IsBase:
		return v, errors.New("create_base not possible with base image")
	case v.Base != "":
		return v, errors.New("create_base not possible with linked clone")
	}
	if err := p.stateless(c, v); err != nil {
		return v, err
	}
	file := v.File
	for _, prefix := range []string{"vm-", "subvol-"} {
		file = strings.TrimPrefix(file, prefix)
	}
	base, err := storage.ParseFile(fmt.Sprintf("%d/base-%s", v.VMID, file))
	if err != nil {
		return v, err
	}
	from, err := p.Path(c, v, "")
	if err != nil {
		return v, err
	}
	to := filepath.Join(filepath.Dir(from), base.File)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("file '%s' already exists", to)
	}
	return base, os.Rename(from, to)
}

// Clone creates an image on top of a base.
func (p Plugin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	switch {
	case snapshot != "":
		return "", errors.New("this storage type does not support clone_image on snapshot")
	case !v.IsBase:
		return "", errors.New("clone_image only works on base images")
	case v.Format == "subvol":
		return "", errors.New("this storage type does not support clone_image on subvolumes")
	}
	clone, path, err := p.Place(c, storage.Request{VMID: vmid, Format: "qcow2"})
	if err != nil {
		return "", err
	}
	err = p.run(ctx, "qemu-img", "create", "-b", fmt.Sprintf("../%d/%s", v.VMID, v.File), "-F", v.Format, "-f", "qcow2", path)
	return v.Name + "/" + clone.Name, err
}

// Rename gives an image to a guest. What stands on a base stays where it can be
// found: the directories of guests lie side by side.
func (p Plugin) Rename(_ context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	if v.Content != storage.Images || v.IsBase {
		return "", fmt.Errorf("'%s' cannot have another owner", v.Name)
	}
	if err := p.stateless(c, v); err != nil {
		return "", err
	}
	from, err := p.Path(c, v, "")
	if err != nil {
		return "", err
	}
	renamed, to, err := p.Place(c, storage.Request{VMID: vmid, Name: name, Format: v.Format})
	if err != nil {
		return "", err
	}
	if err := os.Rename(from, to); err != nil {
		return "", err
	}
	_ = os.Remove(filepath.Dir(from)) // succeeds once the guest has no more volumes
	if v.Base != "" {
		return fmt.Sprintf("%d/%s/%s", v.BaseVMID, v.Base, renamed.Name), nil
	}
	return renamed.Name, nil
}
