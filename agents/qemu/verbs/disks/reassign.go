package disks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
)

// reassign gives a disk to another VM.
func (j Work) reassign(ctx context.Context) error {
	target, err := place.VMID(j.Text("target-vmid"))
	if err != nil {
		return fmt.Errorf("target-vmid: %w", err)
	}
	c, err := j.Unlocked(ctx)
	if err == nil {
		err = j.Fresh(c)
	}
	if err != nil {
		return err
	}
	v, err := drive(c, j.Text("disk"))
	if err != nil {
		return err
	}
	key := j.Text("target-disk")
	if key == "" {
		key = v.Key
	}
	other := Of(job.Job{Place: j.Place, VMID: target, Params: j.Params, Log: j.Log})
	to, err := other.Unlocked(ctx)
	if err != nil {
		return err
	}
	if digest := j.Text("target-digest"); digest != "" && digest != to.Digest {
		return fmt.Errorf("VM %d: %w", target, job.ErrModified)
	}
	_, open, err := j.OpenDrive(j.VMID, v.Volume)
	switch {
	case err != nil:
		return err
	case open:
		return fmt.Errorf("cannot move disk of a running VM (%d)", j.VMID)
	case to.Main.Has(key):
		return fmt.Errorf("target key '%s' is already in use", key)
	case j.snapshotted(c, v.Volume):
		return errors.New("you can't reassign a disk with snapshots")
	}
	if err := other.Announce(ctx, v.Volume); err != nil {
		return err
	}
	made, err := j.Catalog.Rename(ctx, v.Volume, target, "")
	if err != nil {
		return err
	}
	j.Log.Printf("moving disk '%s' from VM '%d' to '%d'", v.Key, j.VMID, target)
	return j.give(ctx, v, target, key, made.String())
}

// give writes down that a disk, under its new name, is another VM's.
func (j Work) give(ctx context.Context, v config.Volume, target uint32, key, made string) error {
	v.Volume = made
	value := v.Volume
	if !strings.HasPrefix(key, "unused") && v.Bus != "unused" {
		value = v.String()
	}
	err := j.Edit(ctx, target, func(c *config.Config) error { c.Main.Set(key, value); return job.CheckText(c) })
	if err != nil {
		return err
	}
	return j.Edit(ctx, j.VMID, func(c *config.Config) error { c.Main.Delete(j.Text("disk")); return nil })
}

// repairReassign finishes what has begun with the new name of the volume.
func (j Work) repairReassign(ctx context.Context) error {
	target, err := place.VMID(j.Text("target-vmid"))
	if err != nil {
		return nil // it was refused
	}
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return job.Gone(err)
	}
	v, err := drive(c, j.Text("disk"))
	if err != nil {
		return nil // done
	}
	made, err := j.Announced(ctx)
	if err != nil || made == "" {
		return err
	}
	if _, err := j.Catalog.Size(ctx, v.Volume); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key := j.Text("target-disk")
	if key == "" {
		key = v.Key
	}
	return j.give(ctx, v, target, key, made)
}
