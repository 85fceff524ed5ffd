package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"etcpve/agents/storage"
	"etcpve/cfs/layout"
)

// MadeKey is where a task notes the volumes it made, as its repair has to know.
// makingKey is where it notes, before it makes one, the storage, the VMID and the
// volumes that are there already; nothing while it makes none.
const (
	MadeKey   = "made"
	makingKey = "making"
	nothing   = "-"
)

// DoomedKey is where a task notes the volumes that it will remove once no
// configuration names them, and BegunKey that it has passed its checks: what
// follows is finished by a repair.
const (
	DoomedKey = "doomed"
	BegunKey  = "begun"
)

// Alloc makes a volume and notes it in the file of the task.
func (j Job) Alloc(ctx context.Context, storageID string, r storage.Request) (string, error) {
	return j.Making(ctx, storageID, r.VMID, func() (storage.ID, error) { return j.Catalog.Alloc(ctx, storageID, r) })
}

// Making notes a volume of a VM that make makes, and beforehand that it does.
func (j Job) Making(ctx context.Context, storageID string, vmid uint32, make func() (storage.ID, error)) (string, error) {
	before, err := j.ownedOn(ctx, storageID, vmid)
	if err == nil {
		err = j.Keep(makingKey, fmt.Sprintf("%s %d %s", storageID, vmid, strings.Join(before, " ")))
	}
	if err != nil {
		return "", err
	}
	made, err := make()
	if err != nil {
		return "", err
	}
	return made.String(), errors.Join(j.Note(made.String()), j.Keep(makingKey, nothing))
}

// givingKey is where a task notes, before it gives a volume to another VM, the
// storage, that VM, and the volumes it has already.
const givingKey = "giving"

// Announce notes that a volume is about to become this VM's, under a new name.
func (j Job) Announce(ctx context.Context, volume string) error {
	storageID, _, _ := strings.Cut(volume, ":")
	before, err := j.ownedOn(ctx, storageID, j.VMID)
	if err != nil {
		return err
	}
	return j.Keep(givingKey, fmt.Sprintf("%s %d %s", storageID, j.VMID, strings.Join(before, " ")))
}

// Announced returns the only volume that has come to a VM since, if one has.
func (j Job) Announced(ctx context.Context) (string, error) { return j.newcomer(ctx, givingKey) }

// newcomer returns the only volume that was not there when a task noted those
// that were.
func (j Job) newcomer(ctx context.Context, key string) (string, error) {
	was := strings.Fields(j.Params[key])
	if len(was) < 2 {
		return "", nil
	}
	vmid, ok := layout.ParseVMID(was[1])
	if !ok {
		return "", nil
	}
	now, err := j.ownedOn(ctx, was[0], vmid)
	now = slices.DeleteFunc(now, func(volume string) bool { return slices.Contains(was[2:], volume) })
	if err != nil || len(now) != 1 {
		return "", err
	}
	return now[0], nil
}

// ownedOn lists the volumes of a VM on one storage.
func (j Job) ownedOn(ctx context.Context, storageID string, vmid uint32) (names []string, err error) {
	all, err := j.Catalog.List(ctx, storageID, storage.Images, vmid)
	for _, i := range all {
		names = append(names, storageID+":"+i.Name)
	}
	return names, err
}

// Keep sets a parameter here and in the file of the task.
func (j Job) Keep(key, value string) error {
	j.Params[key] = value
	return j.Log.Keep(key, value)
}

// reclaim notes the volume that was being made when the task was killed: the
// only one that was not there before.
func (j Job) reclaim(ctx context.Context) error {
	made, err := j.newcomer(ctx, makingKey)
	if err != nil || len(strings.Fields(j.Params[makingKey])) < 2 {
		return err
	}
	if made != "" {
		err = j.Note(made)
	}
	return errors.Join(err, j.Keep(makingKey, nothing))
}

// Note records a volume as this task's.
func (j Job) Note(volume string) error {
	all := strings.Fields(j.Params[MadeKey])
	if !slices.Contains(all, volume) {
		all = append(all, volume)
	}
	return j.Keep(MadeKey, strings.Join(all, " "))
}

// Discard removes the volumes this task made which no configuration names.
func (j Job) Discard(ctx context.Context) (failures error) {
	if err := j.reclaim(ctx); err != nil {
		return err
	}
	for _, volume := range strings.Fields(j.Params[MadeKey]) {
		named, err := j.Named(ctx, volume)
		if err != nil || named {
			failures = errors.Join(failures, err)
			continue
		}
		if _, err := j.Catalog.Size(ctx, volume); err != nil {
			continue // it is gone already
		}
		j.Log.Printf("removing volume '%s'", volume)
		failures = errors.Join(failures, j.Catalog.Free(ctx, volume))
	}
	return failures
}

// Named reports whether the configuration of a guest of the cluster names a volume.
func (j Job) Named(ctx context.Context, volume string) (bool, error) {
	return j.AnyConfiguration(ctx, func(path, content string) bool { return mentions(path, content, volume) })
}

// FreeOwn removes a volume that belongs to the VM and is there.
func (j Job) FreeOwn(ctx context.Context, volume string) error {
	at, err := j.Catalog.Locate(volume)
	if err != nil || at.Volume.VMID != j.VMID || at.Volume.Content != storage.Images {
		return err
	}
	if _, err := j.Catalog.Size(ctx, volume); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	j.Log.Printf("removing volume '%s'", volume)
	return j.Catalog.Free(ctx, volume)
}

// Notes reports whether a parameter was not asked for, but is a note of the task.
func Notes(key string) bool {
	return slices.Contains([]string{MadeKey, makingKey, DoomedKey, BegunKey, givingKey}, key)
}
