package zfs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/storage"
)

// Alloc creates a volume with a LUN.
func (p Plugin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	if r.Format == "subvol" {
		return "", errors.New("unsupported format 'subvol'")
	}
	return p.exported(ctx, c, func() (string, error) { return p.pool(c).Alloc(ctx, c, r) })
}

// exported gives what make makes a LUN, or removes it again.
func (p Plugin) exported(ctx context.Context, c *storage.Config, make func() (string, error)) (string, error) {
	luns, err := p.luns(c)
	if err != nil {
		return "", err
	}
	name, err := make()
	if err != nil {
		return "", err
	}
	v, err := p.Parse(name)
	if err != nil {
		return "", err
	}
	if err := luns.add(ctx, v.File); err != nil {
		return "", errors.Join(err, p.pool(c).Free(context.WithoutCancel(ctx), c, v))
	}
	return name, nil
}

// hidden does something to a volume while it has no LUN. Afterwards the volume
// of the name that change returns has one.
func (p Plugin) hidden(ctx context.Context, c *storage.Config, v storage.Volume, change func() (string, error)) (string, error) {
	luns, err := p.luns(c)
	if err != nil {
		return "", err
	}
	if err := luns.remove(ctx, v.File); err != nil {
		return "", err
	}
	name, err := change()
	if err != nil {
		return "", errors.Join(err, luns.add(context.WithoutCancel(ctx), v.File))
	}
	after, err := p.Parse(name)
	if err != nil {
		return "", err
	}
	return name, luns.add(ctx, after.File)
}

// Free removes a volume and its LUN.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	all, err := p.List(ctx, c, storage.Query{Content: storage.Images})
	if err != nil {
		return err
	}
	for _, i := range all {
		if strings.HasPrefix(i.Name, v.File+"/") {
			return fmt.Errorf("base volume '%s' is still in use by linked clone '%s'", v.File, i.Name)
		}
	}
	luns, err := p.luns(c)
	if err == nil {
		err = luns.remove(ctx, v.File)
	}
	if err == nil {
		err = p.pool(c).Free(ctx, c, v)
	}
	return errors.Join(err, p.DeactivateVolume(ctx, c, v, ""))
}

// Resize grows a volume. The target shows the new size by itself.
func (p Plugin) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	return p.pool(c).Resize(ctx, c, v, bytes)
}

// Snapshot keeps the state of a volume.
func (p Plugin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.pool(c).Snapshot(ctx, c, v, name)
}

// DeleteSnapshot removes a state.
func (p Plugin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.pool(c).DeleteSnapshot(ctx, c, v, name)
}

// RollbackPossible names the newer states that ZFS would have to destroy.
func (p Plugin) RollbackPossible(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.pool(c).RollbackPossible(ctx, c, v, name)
}

// Rollback returns a volume to its newest state, with nobody looking.
func (p Plugin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if err := p.RollbackPossible(ctx, c, v, name); err != nil {
		return err
	}
	_, err := p.hidden(ctx, c, v, func() (string, error) { return v.Name, p.pool(c).Rollback(ctx, c, v, name) })
	return err
}

// CreateBase renames a volume and keeps its state.
func (p Plugin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	return p.hidden(ctx, c, v, func() (string, error) { return p.pool(c).CreateBase(ctx, c, v) })
}

// Clone creates a volume on top of a base.
func (p Plugin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	return p.exported(ctx, c, func() (string, error) { return p.pool(c).Clone(ctx, c, v, vmid, snapshot) })
}

// Rename gives a volume to a guest.
func (p Plugin) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	return p.hidden(ctx, c, v, func() (string, error) { return p.pool(c).Rename(ctx, c, v, vmid, name) })
}
