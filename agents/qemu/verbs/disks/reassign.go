package disks

import (
	"context"
	"errors"
	"fmt"
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
	made, err := j.Catalog.Rename(ctx, v.Volume, target, "")
	if err != nil {
		return err
	}
	j.Log.Printf("moving disk '%s' from VM '%d' to '%d'", v.Key, j.VMID, target)
	v.Volume = made.String()
	value := v.Volume
	if !strings.HasPrefix(key, "unused") && v.Bus != "unused" {
		value = v.String()
	}
	err = j.Edit(ctx, target, func(c *config.Config) error { c.Main.Set(key, value); return job.CheckText(c) })
	if err != nil {
		return err
	}
	return j.Edit(ctx, j.VMID, func(c *config.Config) error { c.Main.Delete(j.Text("disk")); return nil })
}
