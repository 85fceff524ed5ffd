package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"etcpve/agents/host"
)

// ActivateVolumes makes the paths of volumes, or of a snapshot of them, exist.
func (c Catalog) ActivateVolumes(ctx context.Context, snapshot string, volumes ...string) error {
	for _, text := range volumes {
		at, err := c.Locate(text)
		if err == nil {
			err = at.Plugin.Activate(ctx, at.Config)
		}
		if err != nil {
			return err
		}
		if p, ok := at.Plugin.(VolumeActivator); ok {
			if err := p.ActivateVolume(ctx, at.Config, at.Volume, snapshot); err != nil {
				return fmt.Errorf("volume '%s': activate: %w", at.ID, err)
			}
		}
	}
	return nil
}

// DeactivateVolumes gives them up again; all are tried.
func (c Catalog) DeactivateVolumes(ctx context.Context, snapshot string, volumes ...string) (failures error) {
	for _, text := range volumes {
		at, err := c.Locate(text)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		if p, ok := at.Plugin.(VolumeActivator); ok {
			if err := p.DeactivateVolume(ctx, at.Config, at.Volume, snapshot); err != nil {
				failures = errors.Join(failures, fmt.Errorf("volume '%s': deactivate: %w", at.ID, err))
			}
		}
	}
	return failures
}

// with calls f, under the lock of its storage, with a volume whose plugin has
// an ability; what is its name in errors.
func with[Ability any](ctx context.Context, c Catalog, text, what string, f func(context.Context, Place, Ability) error) error {
	at, err := c.Locate(text)
	if err != nil {
		return err
	}
	able, ok := at.Plugin.(Ability)
	if !ok {
		return at.unsupported(what)
	}
	if err := at.Plugin.Activate(ctx, at.Config); err != nil {
		return err
	}
	return c.locked(ctx, at.Config, func(ctx context.Context) error {
		if err := f(ctx, at, able); err != nil {
			return fmt.Errorf("volume '%s': %w", at.ID, err)
		}
		return nil
	})
}

// Snapshot keeps the state of a volume under a name. While a guest has the
// volume open and Blockdev.QEMUSnapshots holds, QEMU has to do it instead.
func (c Catalog) Snapshot(ctx context.Context, text, name string) error {
	return with(ctx, c, text, "snapshots", func(ctx context.Context, at Place, p Snapshotter) error {
		return p.Snapshot(ctx, at.Config, at.Volume, name)
	})
}

// Unchain takes the newest state of a volume back, as if it had not been made.
func (c Catalog) Unchain(ctx context.Context, text, name string) error {
	return with(ctx, c, text, "chains of snapshots", func(ctx context.Context, at Place, p Chainer) error {
		return p.Unchain(ctx, at.Config, at.Volume, name)
	})
}

// DeleteSnapshot forgets a state.
func (c Catalog) DeleteSnapshot(ctx context.Context, text, name string) error {
	return with(ctx, c, text, "snapshots", func(ctx context.Context, at Place, p Snapshotter) error {
		return p.DeleteSnapshot(ctx, at.Config, at.Volume, name)
	})
}

// Rollback returns a volume that nobody has open to a state.
func (c Catalog) Rollback(ctx context.Context, text, name string) error {
	return with(ctx, c, text, "snapshots", func(ctx context.Context, at Place, p Snapshotter) error {
		if err := at.rollbackPossible(ctx, name); err != nil {
			return err
		}
		return p.Rollback(ctx, at.Config, at.Volume, name)
	})
}

// RollbackPossible says why a rollback would be refused.
func (c Catalog) RollbackPossible(ctx context.Context, text, name string) error {
	at, err := c.Locate(text)
	if err != nil {
		return err
	}
	if _, ok := at.Plugin.(Snapshotter); !ok {
		return at.unsupported("snapshots")
	}
	return at.rollbackPossible(ctx, name)
}

func (at Place) rollbackPossible(ctx context.Context, name string) error {
	if p, ok := at.Plugin.(RollbackChecker); ok {
		return p.RollbackPossible(ctx, at.Config, at.Volume, name)
	}
	return nil
}

// Resize grows a volume. While a guest has it open and Blockdev.QEMUResizes
// holds, block_resize has to do it instead.
func (c Catalog) Resize(ctx context.Context, text string, bytes int64) error {
	return with(ctx, c, text, "other sizes", func(ctx context.Context, at Place, p Resizer) error {
		return p.Resize(ctx, at.Config, at.Volume, bytes)
	})
}

// CreateBase makes a volume a base and returns its new ID.
func (c Catalog) CreateBase(ctx context.Context, text string) (made ID, err error) {
	err = with(ctx, c, text, "bases", func(ctx context.Context, at Place, p Cloner) error {
		if !at.can("template", "") {
			return fmt.Errorf("bases are %w", ErrUnsupported)
		}
		name, err := p.CreateBase(ctx, at.Config, at.Volume)
		made = ID{at.ID.Storage, name}
		return err
	})
	return made, err
}

// Clone returns the ID of a new volume of a guest that stands on a base: a
// linked clone.
func (c Catalog) Clone(ctx context.Context, text string, vmid uint32, snapshot string) (made ID, err error) {
	err = with(ctx, c, text, "linked clones", func(ctx context.Context, at Place, p Cloner) error {
		if !at.can("clone", snapshot) {
			return fmt.Errorf("linked clones are %w", ErrUnsupported)
		}
		name, err := p.Clone(ctx, at.Config, at.Volume, vmid, snapshot)
		made = ID{at.ID.Storage, name}
		return err
	})
	return made, err
}

// Rename gives a volume to a guest, under a free name or the one given, and
// returns its new ID.
func (c Catalog) Rename(ctx context.Context, text string, vmid uint32, name string) (made ID, err error) {
	err = with(ctx, c, text, "other names", func(ctx context.Context, at Place, p Renamer) error {
		if !at.can("rename", "") {
			return fmt.Errorf("other names are %w", ErrUnsupported)
		}
		name, err := p.Rename(ctx, at.Config, at.Volume, vmid, name)
		made = ID{at.ID.Storage, name}
		return err
	})
	return made, err
}

// A Copying asks for a full copy of a volume that nobody writes to.
type Copying struct {
	From     string // volume ID or path
	Snapshot string // of it; "" for its present state
	To       string // storage
	VMID     uint32 // owner of the copy
	Format   string // "" for the storage's own choice
	Name     string // "" for the next free one
	Limit    int64  // KiB/s; 0 for none
}

// Copy makes a full copy and returns its ID. A copy that fails is removed.
func (c Catalog) Copy(ctx context.Context, r Copying) (made ID, err error) {
	source, err := c.Blockdev(r.From, r.Snapshot)
	if err != nil {
		return ID{}, err
	}
	// Volumes only grow: the present size is enough for any snapshot.
	bytes, err := c.Size(ctx, r.From)
	if err != nil {
		return ID{}, err
	}
	made, err = c.Alloc(ctx, r.To, Request{VMID: r.VMID, Format: r.Format, Name: r.Name, Bytes: bytes})
	if err != nil {
		return ID{}, err
	}
	if err = c.Convert(ctx, source, made.String(), r.Limit); err != nil {
		// Also after ctx has ended: half a copy is none.
		err = errors.Join(err, c.Free(context.WithoutCancel(ctx), made.String()))
	}
	return made, err
}

// Convert copies what source leads to into a volume that exists and is as large,
// without changing its format. Limit is in KiB/s, 0 for none.
func (c Catalog) Convert(ctx context.Context, source Blockdev, text string, limit int64) error {
	if err := c.ActivateVolumes(ctx, "", text); err != nil {
		return err
	}
	target, err := c.Blockdev(text, "")
	if err != nil {
		return err
	}
	argv := []string{"qemu-img", "convert", "-n", "-t", "none", "-T", "none"}
	if limit > 0 {
		argv = append(argv, "-r", strconv.FormatInt(limit<<10, 10))
	}
	if source.Internal != "" {
		argv = append(argv, "-l", "snapshot.name="+source.Internal)
	}
	// A volume that is all zeros when it is made need not be zeroed again.
	if sparse, err := c.Can("sparseinit", text, ""); err == nil && sparse {
		argv = append(argv, "--target-is-zero")
	}
	argv = append(argv, "--image-opts", "--target-image-opts", source.ImageOpts(), target.ImageOpts())
	if _, err := c.Run.Run(ctx, host.Command{Argv: argv}); err != nil {
		return fmt.Errorf("volume '%s': copy: %w", text, err)
	}
	return nil
}
