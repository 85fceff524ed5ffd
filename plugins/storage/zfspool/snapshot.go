package zfspool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"etcpve/agents/storage"
)

// Snapshot keeps the state of a volume.
func (p Plugin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.do(ctx, "zfs", "snapshot", set(c, v.File)+"@"+name)
}

// DeleteSnapshot removes a state, but never the one that makes a base.
func (p Plugin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if v.IsBase && name == baseSnapshot {
		return fmt.Errorf("'%s' is a base because of the snapshot '%s'", v.File, name)
	}
	return p.do(ctx, "zfs", "destroy", set(c, v.File)+"@"+name)
}

// snapshots returns the states of a volume, oldest first.
func (p Plugin) snapshots(ctx context.Context, c *storage.Config, v storage.Volume) (names []string, err error) {
	rows, err := p.ask(ctx, "zfs", "list", "-Hp", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", "name", set(c, v.File))
	for _, row := range rows {
		if _, name, ok := strings.Cut(row[0], "@"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// RollbackPossible names the newer states that ZFS would have to destroy.
func (p Plugin) RollbackPossible(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	names, err := p.snapshots(ctx, c, v)
	if err != nil {
		return err
	}
	i := slices.Index(names, name)
	switch {
	case i < 0:
		return fmt.Errorf("can't rollback, snapshot '%s' does not exist on '%s'", name, v.Name)
	case i < len(names)-1:
		return &storage.BlockedError{Volume: v.Name, Snapshot: name, Blockers: names[i+1:]}
	}
	return nil
}

// Rollback returns a volume to its newest state.
func (p Plugin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if err := p.RollbackPossible(ctx, c, v, name); err != nil {
		return err
	}
	if err := p.do(ctx, "zfs", "rollback", set(c, v.File)+"@"+name); err != nil || v.Format != "subvol" {
		return err
	}
	// Without that, a directory that was mounted shows the old content.
	if err := p.do(ctx, "zfs", "unmount", set(c, v.File)); err != nil {
		return nil // it was not mounted, or a guest keeps it busy and sees the new content
	}
	return p.do(ctx, "zfs", "mount", set(c, v.File))
}

// CreateBase renames a volume and keeps its state.
func (p Plugin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	if v.IsBase {
		return "", errors.New("create_base not possible with base image")
	}
	base := "base-" + strings.TrimPrefix(v.File, "vm-")
	if v.Format == "subvol" {
		base = "basevol-" + strings.TrimPrefix(v.File, "subvol-")
	}
	if err := p.do(ctx, "zfs", "rename", set(c, v.File), set(c, base)); err != nil {
		return "", err
	}
	if err := p.do(ctx, "zfs", "snapshot", set(c, base)+"@"+baseSnapshot); err != nil {
		return "", errors.Join(err, p.do(context.WithoutCancel(ctx), "zfs", "rename", set(c, base), set(c, v.File)))
	}
	if v.Base != "" { // a base may itself be a linked clone
		base = v.Base + "/" + base
	}
	return base, nil
}

// Clone creates a volume on top of a base.
func (p Plugin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	switch {
	case !v.IsBase:
		return "", errors.New("clone_image only works on base images")
	case snapshot != "" && snapshot != baseSnapshot:
		return "", fmt.Errorf("clones of snapshot '%s' are %w", snapshot, storage.ErrUnsupported)
	}
	prefix := "vm"
	argv := []string{"zfs", "clone"}
	if v.Format == "subvol" {
		prefix = "subvol"
		size, err := p.Size(ctx, c, v)
		if err != nil {
			return "", err
		}
		argv = append(argv, "-o", "refquota="+quota(size)) // not inherited by clones
	}
	name, err := p.vacant(ctx, c, storage.Request{VMID: vmid}, prefix)
	if err != nil {
		return "", err
	}
	err = p.do(ctx, append(argv, set(c, v.File)+"@"+baseSnapshot, set(c, name))...)
	return v.File + "/" + name, err
}
