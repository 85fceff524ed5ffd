package disks

import (
	"context"
	"slices"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Rescan notes the sizes that volumes have, and lists as unused what belongs to
// VMs and is named nowhere.
func (j Work) Rescan(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return err
	}
	found, err := j.unnamed(ctx)
	if err != nil {
		return err
	}
	change := func(c *config.Config) error {
		for _, v := range config.Volumes(layout.QEMU, c.Main) {
			w := job.Wish{Volume: v}
			if err := j.Existing(ctx, &w); err != nil {
				j.Log.Warnf("%s: %s", v.Key, err)
				continue
			}
			if now := w.String(); w.Options["size"] != "" && now != c.Main.Get(v.Key) {
				j.Log.Printf("VM %d (%s): size of disk '%s' updated to %s", j.VMID, v.Key, v.Volume, w.Options["size"])
				c.Main.Set(v.Key, now)
			}
		}
		for _, volume := range found {
			if err := guest.AddUnused(c.Main, volume); err != nil {
				return err
			}
			j.Log.Printf("VM %d: add unreferenced volume '%s' as '%s' to config", j.VMID, volume, unusedOf(c, volume))
		}
		return nil
	}
	if j.Truth("dryrun") {
		return change(c)
	}
	return j.Edit(ctx, j.VMID, change)
}

// unnamed are the volumes of the VM that no configuration names.
func (j Work) unnamed(ctx context.Context) (all []string, err error) {
	storages, err := j.Catalog.Configs()
	if err != nil {
		return nil, err
	}
	for _, s := range storages {
		if s.Keeps(storage.Images) != nil {
			continue
		}
		listed, err := j.Catalog.List(ctx, s.ID, storage.Images, j.VMID)
		if err != nil {
			j.Log.Warnf("storage '%s': %s", s.ID, err)
			continue
		}
		for _, i := range listed {
			volume := s.ID + ":" + i.Name
			named, err := j.Named(ctx, volume)
			if err != nil {
				return nil, err
			}
			if !named && !strings.Contains(i.Name, "-cloudinit") && !strings.Contains(i.Name, "-state-") {
				all = append(all, volume)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}
