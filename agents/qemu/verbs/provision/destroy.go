package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Destroy removes a stopped VM with all its volumes.
func (j Work) Destroy(ctx context.Context) error {
	c, err := j.Unlocked(ctx)
	if err != nil {
		return err
	}
	if c.Main.Bool(layout.QEMU, "protection") {
		return fmt.Errorf("can't remove VM %d - protection mode enabled", j.VMID)
	}
	running, err := j.Running(ctx, j.VMID)
	if err == nil && running {
		err = fmt.Errorf("VM %d is running - destroy failed", j.VMID)
	}
	if err != nil {
		return err
	}
	managed, err := j.highlyAvailable(ctx, j.VMID)
	if err != nil {
		return err
	}
	if managed && !j.Truth("purge") {
		return fmt.Errorf("unable to remove VM %d - used in HA resources and purge parameter not set", j.VMID)
	}
	if !j.Truth("purge") {
		if err := j.replicated(ctx); err != nil {
			return err
		}
	}
	if err := j.basesFree(ctx, c); err != nil {
		return err
	}
	if err := j.Keep(job.BegunKey, "1"); err != nil {
		return err
	}
	return j.remove(ctx, c)
}

// remove frees all volumes and then forgets the VM. It may be repeated.
func (j Work) remove(ctx context.Context, c *config.Config) error {
	volumes := job.VolumesOf(c)
	for _, volume := range slices.Sorted(maps.Keys(volumes)) {
		if err := j.FreeOwn(ctx, volume); err != nil {
			// A volume that cannot be removed must not keep the rest.
			j.Log.Warnf("could not remove disk '%s': %s", volume, err)
		}
	}
	if j.Truth("destroy-unreferenced-disks") {
		if err := j.freeUnreferenced(ctx); err != nil {
			return err
		}
	}
	doomed := []string{layout.PowerDir + "/" + strconv.FormatUint(uint64(j.VMID), 10), fmt.Sprintf("firewall/%d.fw", j.VMID)}
	if j.Truth("purge") {
		if err := j.purge(ctx); err != nil {
			return err
		}
	}
	if err := j.forgetAccess(ctx); err != nil {
		return err
	}
	for _, path := range append(doomed, j.Path(j.VMID)) {
		if err := j.Remove(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// basesFree refuses to remove a template that linked clones stand on, before
// anything of it is gone.
func (j Work) basesFree(ctx context.Context, c *config.Config) error {
	for volume := range job.VolumesOf(c) {
		at, err := j.Catalog.Locate(volume)
		if err != nil || !at.Volume.IsBase {
			continue
		}
		all, err := j.Catalog.List(ctx, at.ID.Storage, storage.Images, 0)
		if err != nil {
			return err
		}
		for _, i := range all {
			if v, err := at.Plugin.Parse(i.Name); err == nil && v.Base == at.Volume.File && v.BaseVMID == at.Volume.VMID {
				return fmt.Errorf("base volume '%s' is still in use by linked cloned volume '%s:%s'", volume, at.ID.Storage, i.Name)
			}
		}
	}
	return nil
}

// freeUnreferenced removes volumes of the VMID that its configuration does not name.
func (j Work) freeUnreferenced(ctx context.Context) error {
	storages, err := j.Catalog.Configs()
	if err != nil {
		return err
	}
	for _, s := range storages {
		if s.Keeps(storage.Images) != nil {
			continue
		}
		all, err := j.Catalog.List(ctx, s.ID, storage.Images, j.VMID)
		if err != nil {
			j.Log.Warnf("storage '%s': %s", s.ID, err)
			continue
		}
		for _, i := range all {
			if err := j.FreeOwn(ctx, s.ID+":"+i.Name); err != nil {
				j.Log.Warnf("could not remove disk '%s:%s': %s", s.ID, i.Name, err)
			}
		}
	}
	return nil
}

// RepairDestroy goes on with a removal that had passed its checks.
func (j Work) RepairDestroy(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil || !j.Truth(job.BegunKey) {
		return job.Gone(err)
	}
	if running, err := j.Running(ctx, j.VMID); err != nil || running || c.Main.Bool(layout.QEMU, "protection") {
		return err // it has come to be used since
	}
	return j.remove(ctx, c)
}
