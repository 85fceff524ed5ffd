package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/storage"
)

// Snapshot keeps the state of a volume as a subvolume that cannot be written.
func (p Plugin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if !ours(v) {
		return p.Plugin.Snapshot(ctx, c, v, name)
	}
	path, err := p.subvolume(c, v, "")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path + "@" + name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot '%s' of '%s' already exists", name, v.Name)
	}
	return p.btrfs(ctx, "subvolume", "snapshot", "-r", path, path+"@"+name)
}

// DeleteSnapshot removes a state.
func (p Plugin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if !ours(v) {
		return p.Plugin.DeleteSnapshot(ctx, c, v, name)
	}
	path, err := p.subvolume(c, v, name)
	if err != nil {
		return err
	}
	return p.btrfs(ctx, "subvolume", "delete", path)
}

// Rollback puts a copy of a state in the place of the volume, in one step.
func (p Plugin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if !ours(v) {
		return p.Plugin.Rollback(ctx, c, v, name)
	}
	path, err := p.subvolume(c, v, "")
	if err != nil {
		return err
	}
	return p.staged(ctx, path, func(stage string) error {
		if err := p.btrfs(ctx, "subvolume", "snapshot", path+"@"+name, stage); err != nil {
			return err
		}
		return exchange(stage, path)
	})
}

// staged calls f with the path of a subvolume to be, beside another, that is
// removed afterwards if it is there. Its name is that of no volume.
func (p Plugin) staged(ctx context.Context, path string, f func(stage string) error) error {
	stage := filepath.Join(filepath.Dir(path), ".stage-"+filepath.Base(path))
	remove := func() error {
		if _, err := os.Lstat(stage); err != nil {
			return nil // not there
		}
		return p.btrfs(context.WithoutCancel(ctx), "subvolume", "delete", stage)
	}
	if err := remove(); err != nil { // left by an agent that was killed
		return err
	}
	err := f(stage)
	return errors.Join(err, remove())
}

// CreateBase renames a volume and forbids to write it.
func (p Plugin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	if !ours(v) {
		return p.Plugin.CreateBase(ctx, c, v)
	}
	if v.IsBase || v.Base != "" {
		return "", errors.New("create_base not possible with base image or linked clone")
	}
	file := strings.TrimPrefix(strings.TrimPrefix(v.File, "vm-"), "subvol-")
	base, err := p.Parse(fmt.Sprintf("%d/base-%s", v.VMID, file))
	if err != nil {
		return "", err
	}
	to, err := p.subvolume(c, base, "")
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("'%s' already exists", to)
	}
	if err := p.move(c, v, to); err != nil {
		return "", err
	}
	return base.Name, p.btrfs(ctx, "property", "set", "-t", "subvol", to, "ro", "true")
}

// Clone creates a volume with the content of a base or a snapshot. It does not
// need that afterwards, so its name does not speak of it.
func (p Plugin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	if !ours(v) {
		return p.Plugin.Clone(ctx, c, v, vmid, snapshot)
	}
	if snapshot == "" && !v.IsBase {
		return "", errors.New("clone_image only works on base images")
	}
	from, err := p.subvolume(c, v, snapshot)
	if err != nil {
		return "", err
	}
	clone, to, err := p.place(ctx, c, storage.Request{VMID: vmid, Format: v.Format})
	if err != nil {
		return "", err
	}
	return clone.Name, p.btrfs(ctx, "subvolume", "snapshot", from, to)
}
