// Package dir is the storage type "dir": volumes are files below a directory.
//
// It owns the layout of such a directory and the work on the files in it, which
// the types that mount something first (nfs, cifs, cephfs) and btrfs build upon:
// they embed Plugin and replace what differs. It never mounts anything and never
// writes an image itself: images are created and changed with
// qemu-img, and listed without it.
package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"etcpve/agents/storage"
)

// Plugin keeps volumes as files.
type Plugin struct {
	Run  storage.Runner
	Zone *time.Location // of the times in the names of backups; nil for the node's own
}

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.Chainer
	storage.RollbackChecker
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.Locator
	storage.Featured
} = Plugin{}

// Parse understands a volume name.
func (Plugin) Parse(name string) (storage.Volume, error) { return storage.ParseFile(name) }

// Features says what can be done with volumes.
func (Plugin) Features(*storage.Config) storage.Features {
	images := func(state string, formats ...string) (all []string) {
		for _, f := range formats {
			all = append(all, state+":"+f)
		}
		return all
	}
	disks := []string{"qcow2", "raw", "vmdk"}
	every := append(slices.Clone(disks), "subvol")
	return storage.Features{
		"snapshot":   {"current:qcow2", "snap:qcow2"},
		"clone":      images("base", disks...),
		"template":   images("current", every...),
		"copy":       slices.Concat(images("base", every...), images("current", every...), []string{"snap:qcow2"}),
		"sparseinit": slices.Concat(images("base", disks...), images("current", disks...)),
		"rename":     images("current", every...),
	}
}

// Path returns the file of a volume. A snapshot is inside the file, unless it is
// one of a chain.
func (Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if snapshot != "" && v.Format != "qcow2" {
		return "", errors.New("can't snapshot this image format")
	}
	dir, err := c.Subdir(v.Content)
	if err != nil {
		return "", err
	}
	if v.Content == storage.Images {
		dir = imageDir(dir, v.VMID)
	}
	if snapshot != "" && chained(c, v) {
		return filepath.Join(dir, stateFile(v, snapshot)), nil
	}
	return filepath.Join(dir, v.File), nil
}

func imageDir(images string, vmid uint32) string {
	return filepath.Join(images, fmt.Sprint(vmid))
}

// Activate creates the directories of the content types.
func (Plugin) Activate(_ context.Context, c *storage.Config) error {
	path := c.Path()
	if path == "" {
		return errors.New("storage definition has no path")
	}
	create := func(key string) bool { return !off(c, "mkdir") && !off(c, key) }
	if err := mountpoint(c); err != nil {
		return err
	}
	if create("create-base-path") {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return fmt.Errorf("unable to activate storage '%s' - directory '%s' does not exist or is unreachable", c.ID, path)
	}
	if !create("create-subdirs") {
		return nil
	}
	for _, content := range c.Content() {
		if content == storage.Rootdir {
			content = storage.Images // root directories are images too
		}
		dir, err := c.Subdir(content)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// off reports whether a setting that is on by default is switched off.
func off(c *storage.Config, key string) bool { return c.Value(key) != "" && !c.Bool(key) }

// mountpoint refuses to use the directory that something is yet to be mounted
// on: files would go below the mount.
func mountpoint(c *storage.Config) error {
	value := c.Value("is_mountpoint")
	if value == "" || slices.Contains([]string{"no", "0", "off", "false"}, value) {
		return nil
	}
	path := c.Path()
	if filepath.IsAbs(value) {
		path = value
	}
	mounted, err := isMountpoint(path)
	if err == nil && !mounted {
		err = fmt.Errorf("unable to activate storage '%s' - directory is expected to be a mount point but is not mounted: '%s'", c.ID, path)
	}
	return err
}

// isMountpoint reports whether another file system begins at a directory.
func isMountpoint(path string) (bool, error) {
	var here, above syscall.Stat_t
	if err := syscall.Stat(path, &here); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if err := syscall.Stat(filepath.Dir(path), &above); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	return here.Dev != above.Dev || here.Ino == above.Ino, nil
}

// Deactivate has nothing to undo.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks the file system.
func (Plugin) Status(_ context.Context, c *storage.Config) (storage.Status, error) {
	if err := mountpoint(c); err != nil {
		return storage.Status{}, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(c.Path(), &fs); err != nil {
		return storage.Status{}, fmt.Errorf("%s: %w", c.Path(), err)
	}
	block := int64(fs.Bsize)
	return storage.Status{
		Total:     int64(fs.Blocks) * block,
		Used:      int64(fs.Blocks-fs.Bfree) * block,
		Available: int64(fs.Bavail) * block,
	}, nil
}

func (p Plugin) zone() *time.Location { return cmp.Or(p.Zone, time.Local) }
