package guest

import (
	"context"
	"errors"

	"etcpve/cfs/format/guest"
)

// A removal says how a snapshot is removed.
type removal struct {
	force bool            // errors of volumes are only logged
	only  map[string]bool // undo of a creation: the volumes that have the snapshot
	again bool            // it was begun before, so the guest is locked for it
}

// Delete removes a snapshot with the saved state and the snapshots of all
// volumes. With force errors of volumes are only logged; without it an error
// leaves the guest locked, and what is left to be removed in the snapshot.
func (s *Snapshots) Delete(ctx context.Context, vmid uint32, name string, force bool) error {
	return s.remove(ctx, vmid, name, removal{force: force})
}

func (s *Snapshots) remove(ctx context.Context, vmid uint32, name string, how removal) error {
	var snap *guest.Section
	err := s.Files.Edit(ctx, vmid, func(c *guest.Config) (err error) {
		if snap, err = snapshotOf(c, name); err != nil {
			return err
		}
		if how.only == nil && !how.again {
			if err := s.removable(ctx, c, snap); err != nil {
				return err
			}
		}
		c.Main.Set("lock", LockSnapshotDelete)
		snap.Set("snapstate", "delete")
		snap = snap.Clone()
		return nil
	})
	if err != nil {
		return err
	}
	handled, err := s.removeData(ctx, vmid, name, snap, how)
	if err != nil {
		return err
	}
	return s.Files.Edit(ctx, vmid, func(c *guest.Config) error { return unlink(c, name, handled) })
}

// removable makes the checks before a snapshot is removed.
func (s *Snapshots) removable(ctx context.Context, c *guest.Config, snap *guest.Section) error {
	if err := s.Volumes.Activate(ctx, disks(c.Kind, snap)); err != nil {
		return err
	}
	if err := CheckLock(c); err != nil {
		return err
	}
	if isTemplate(c) {
		return errors.New("you can't delete a snapshot if vm is a template")
	}
	return nil
}

// removeData removes the saved state and the volumes' snapshots and returns
// the volumes whose snapshot is gone.
func (s *Snapshots) removeData(ctx context.Context, vmid uint32, name string, snap *guest.Section, how removal) ([]string, error) {
	var handled []string
	attempt := func(key string, step func() error) error {
		if err := step(); err != nil {
			if !how.force {
				return err
			}
			s.Log.Warn("remove snapshot of volume", "vmid", vmid, "key", key, "err", err)
		}
		if how.force {
			return nil
		}
		return s.Files.Edit(ctx, vmid, func(c *guest.Config) error { return moveToUnused(c, name, key) })
	}
	if state, ok := snap.Lookup("vmstate"); ok && s.Memory != nil {
		err := attempt("vmstate", func() error { return s.Memory.Remove(ctx, vmid, state) })
		if err != nil {
			return nil, err
		}
	}
	c, err := s.Files.Load(ctx, vmid)
	if err != nil {
		return nil, err
	}
	for _, v := range disks(c.Kind, snap) {
		if how.only != nil && !how.only[v.Key] {
			continue
		}
		err := attempt(v.Key, func() error {
			if err := s.Volumes.DeleteSnapshot(ctx, v, name); err != nil {
				return err
			}
			handled = append(handled, v.Volume)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return handled, nil
}

// moveToUnused notes in a snapshot that a volume of it has been handled.
func moveToUnused(c *guest.Config, name, key string) error {
	snap, err := snapshotOf(c, name)
	if err != nil {
		return err
	}
	value := snap.Get(key)
	snap.Delete(key)
	if key == "vmstate" {
		return nil
	}
	v, err := guest.ParseVolume(c.Kind, key, value)
	if err != nil {
		return err
	}
	return AddUnused(snap, v.Volume)
}

// unlink takes a snapshot out of the tree: what came from it now comes from
// its parent. Volumes that nothing names any more are listed as unused.
func unlink(c *guest.Config, name string, volumes []string) error {
	snap, err := snapshotOf(c, name)
	if err != nil {
		return err
	}
	parent := snap.Get("parent")
	delete(c.Snapshots, name)
	reparent(c.Main, name, parent)
	for _, other := range c.Snapshots {
		reparent(other, name, parent)
	}
	c.Main.Delete("lock")
	for _, volume := range volumes {
		if !inUse(c, volume) {
			if err := AddUnused(c.Main, volume); err != nil {
				return err
			}
		}
	}
	return nil
}

func reparent(s *guest.Section, from, to string) {
	switch {
	case s.Get("parent") != from:
	case to == "":
		s.Delete("parent")
	default:
		s.Set("parent", to)
	}
}
