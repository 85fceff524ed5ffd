package power

import (
	"context"
	"errors"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/snapshot"
	"etcpve/agents/qemu/state"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
)

// hibernate saves the state of a VM into a volume and ends it. The next start
// goes on from there.
func (j Work) hibernate(ctx context.Context, c *config.Config) error {
	if storage := j.Text("statestorage"); storage != "" {
		c.Main.Set("vmstatestorage", storage)
	}
	volume, err := j.beginHibernate(ctx, c)
	if err != nil {
		return err
	}
	j.Log.Printf("suspending VM to '%s'", volume)
	err = j.saveState(ctx, volume)
	if err == nil {
		// From here on the VM is suspended, whatever happens: the disks stay as the
		// state knows them.
		err = j.Edit(context.WithoutCancel(ctx), j.VMID, func(c *config.Config) error {
			c.Main.Set("lock", guest.LockSuspended)
			return nil
		})
	}
	if err != nil {
		return errors.Join(err, j.undoHibernate(context.WithoutCancel(ctx)))
	}
	if err := j.End(context.WithoutCancel(ctx), j.VMID, j.Log.Printf); err != nil {
		return err
	}
	j.Log.Printf("State saved, quitting")
	return nil
}

// beginHibernate locks the VM and allocates the volume.
func (j Work) beginHibernate(ctx context.Context, chosen *config.Config) (volume string, err error) {
	on, err := j.Hardware(ctx, j.VMID)
	if err != nil {
		return "", err
	}
	err = j.Edit(ctx, j.VMID, func(c *config.Config) error {
		if !j.Truth("skiplock") {
			if err := guest.CheckLock(c); err != nil {
				return err
			}
		}
		var err error
		if volume, err = snapshot.AllocState(ctx, j.Catalog, j.Alloc, chosen, "suspend-"+time.Now().Format("2006-01-02")); err != nil {
			return err
		}
		c.Main.Set("lock", guest.LockSuspending)
		c.Main.Set("vmstate", volume)
		on.Note(c.Main)
		return nil
	})
	if err != nil && volume != "" {
		err = errors.Join(err, j.Catalog.Free(context.WithoutCancel(ctx), volume))
	}
	return volume, err
}

func (j Work) saveState(ctx context.Context, volume string) error {
	saving, err := snapshot.Begin(ctx, j.Place, j.VMID, volume)
	if err != nil {
		return err
	}
	return saving.Finish(ctx)
}

// undoHibernate lets a VM go on that could not be suspended.
func (j Work) undoHibernate(ctx context.Context) error {
	var failures error
	if running, err := j.Running(ctx, j.VMID); err != nil || running {
		r := err
		if err == nil {
			r = state.Abort(ctx, snapshot.Talker(j.Place, j.VMID), true)
		}
		failures = errors.Join(failures, r)
	}
	volume := ""
	err := j.Edit(ctx, j.VMID, func(c *config.Config) error {
		if c.Main.Get("lock") != guest.LockSuspending {
			return nil
		}
		volume = c.Main.Get("vmstate")
		c.Main.Delete("lock", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu")
		return nil
	})
	if err == nil && volume != "" {
		err = j.Catalog.Free(ctx, volume)
	}
	return errors.Join(failures, err)
}

// RepairSuspend finishes or undoes a suspension to disk.
func (j Work) RepairSuspend(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil || !j.Truth("todisk") {
		return job.Gone(err)
	}
	switch c.Main.Get("lock") {
	case guest.LockSuspending:
		j.Log.Printf("undo suspension of VM %d", j.VMID)
		err = j.undoHibernate(ctx)
	case guest.LockSuspended:
		err = j.End(ctx, j.VMID, j.Log.Printf)
	}
	return errors.Join(err, j.Discard(ctx))
}
