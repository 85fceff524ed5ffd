package provision

import (
	"context"
	"errors"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Configure changes settings, with the volumes that this makes and gives up.
func (j Work) Configure(ctx context.Context) error {
	c, err := j.Unlocked(ctx)
	if err == nil {
		err = j.Fresh(c)
	}
	if err != nil {
		return err
	}
	wanted := config.NewSection()
	for _, key := range j.settings() {
		wanted.Set(key, j.Text(key))
	}
	newMACs(wanted, false)
	if err := j.Fill(ctx, j.VMID, wanted, wanted.Keys()); err != nil {
		return errors.Join(err, j.Discard(context.WithoutCancel(ctx)))
	}
	var doomed []string
	err = j.Edit(ctx, j.VMID, func(c *config.Config) error {
		doomed, err = j.assign(c, wanted)
		if err = errors.Join(err, job.CheckText(c)); err != nil || doomed == nil {
			return err
		}
		return j.Keep(job.DoomedKey, strings.Join(doomed, " "))
	})
	if err != nil {
		return errors.Join(err, j.Discard(context.WithoutCancel(ctx)))
	}
	return j.freeDoomed(ctx, doomed)
}

// freeDoomed removes volumes that were given up.
func (j Work) freeDoomed(ctx context.Context, doomed []string) error {
	for _, volume := range doomed {
		// It may be in use under another key by now, or by a snapshot.
		if named, err := j.Named(ctx, volume); err != nil || named {
			if err != nil {
				return err
			}
			continue
		}
		if err := j.freeUnused(ctx, volume); err != nil {
			return err
		}
	}
	return nil
}

// RepairConfigure removes what a change made for nothing, and what it gave up.
func (j Work) RepairConfigure(ctx context.Context) error {
	return errors.Join(j.Discard(ctx), j.freeDoomed(ctx, strings.Fields(j.Text(job.DoomedKey))))
}

// assign changes a configuration and returns the volumes that are to be removed.
func (j Work) assign(c *config.Config, wanted *config.Section) (doomed []string, err error) {
	for _, key := range j.List("revert") {
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
	}
	for _, key := range j.List("delete") {
		old := c.Main.Get(key)
		c.Main.Delete(key)
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
		gone, err := j.giveUp(c, key, old)
		doomed = append(doomed, gone...)
		if err != nil {
			return doomed, err
		}
	}
	for _, key := range append(wanted.Keys(), "description") {
		if !wanted.Has(key) {
			continue
		}
		old := c.Main.Get(key)
		c.Main.Set(key, wanted.Get(key))
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
		if _, err := j.giveUp(c, key, old); err != nil {
			return doomed, err
		}
	}
	return doomed, nil
}

// giveUp lists the volume of a setting that is no more as unused, or returns it
// to be removed: one that was unused already, or of which this is wanted.
func (j Work) giveUp(c *config.Config, key, old string) (doomed []string, err error) {
	volume := strings.TrimPrefix(old, "file=")
	if !strings.HasPrefix(key, "unused") {
		v, err := config.ParseVolume(layout.QEMU, key, old)
		if _, _, ok := v.Storage(); err != nil || !ok || v.IsCDROM() && !v.IsCloudInit() {
			return nil, nil
		}
		if volume = v.Volume; v.IsCloudInit() {
			return []string{volume}, nil
		}
	}
	owner, err := j.Catalog.Locate(volume)
	switch {
	case old == "" || err != nil || owner.Volume.VMID != j.VMID || job.VolumesOf(c)[volume]:
		return nil, nil
	case strings.HasPrefix(key, "unused") || j.Truth("force"):
		return []string{volume}, nil
	}
	return nil, guest.AddUnused(c.Main, volume)
}

// freeUnused removes a volume that was given up. While QEMU still has it, it
// becomes unused instead.
func (j Work) freeUnused(ctx context.Context, volume string) error {
	if _, open, err := j.OpenDrive(j.VMID, volume); err != nil || open {
		if err != nil {
			return err
		}
		j.Log.Warnf("'%s' is still in use, and kept as unused", volume)
		return j.Edit(ctx, j.VMID, func(c *config.Config) error { return guest.AddUnused(c.Main, volume) })
	}
	return j.FreeOwn(ctx, volume)
}
