package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// Alloc makes a volume and notes it in the file of the task.
func (j Job) Alloc(ctx context.Context, storageID string, r storage.Request) (string, error) {
	before, err := j.ownedOn(ctx, storageID, r.VMID)
	if err == nil {
		err = j.keep(makingKey, fmt.Sprintf("%s %d %s", storageID, r.VMID, strings.Join(before, " ")))
	}
	if err != nil {
		return "", err
	}
	made, err := j.Catalog.Alloc(ctx, storageID, r)
	if err != nil {
		return "", err
	}
	return made.String(), errors.Join(j.Note(made.String()), j.keep(makingKey, nothing))
}

// ownedOn lists the volumes of a VM on one storage.
func (j Job) ownedOn(ctx context.Context, storageID string, vmid uint32) (names []string, err error) {
	all, err := j.Catalog.List(ctx, storageID, storage.Images, vmid)
	for _, i := range all {
		names = append(names, storageID+":"+i.Name)
	}
	return names, err
}

// keep sets a parameter here and in the file of the task.
func (j Job) keep(key, value string) error {
	j.Params[key] = value
	return j.Log.Keep(key, value)
}

// reclaim notes the volume that was being made when the task was killed: the
// only one that was not there before.
func (j Job) reclaim(ctx context.Context) error {
	was := strings.Fields(j.Params[makingKey])
	if len(was) < 2 {
		return nil
	}
	vmid, ok := layout.ParseVMID(was[1])
	if !ok {
		return nil
	}
	now, err := j.ownedOn(ctx, was[0], vmid)
	if err != nil {
		return err
	}
	now = slices.DeleteFunc(now, func(volume string) bool { return slices.Contains(was[2:], volume) })
	if len(now) == 1 {
		err = j.Note(now[0])
	}
	return errors.Join(err, j.keep(makingKey, nothing))
}

// Note records a volume as this task's.
func (j Job) Note(volume string) error {
	all := strings.Fields(j.Params[MadeKey])
	if !slices.Contains(all, volume) {
		all = append(all, volume)
	}
	return j.keep(MadeKey, strings.Join(all, " "))
}

// Discard removes the volumes this task made which no configuration names.
func (j Job) Discard(ctx context.Context) (failures error) {
	if err := j.reclaim(ctx); err != nil {
		return err
	}
	for _, volume := range strings.Fields(j.Params[MadeKey]) {
		named, err := j.Named(volume)
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
func (j Job) Named(volume string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(j.Tree, "nodes/*/*/*.conf"))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		found, err := mentions(file, volume)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
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
func Notes(key string) bool { return key == MadeKey || key == makingKey }
