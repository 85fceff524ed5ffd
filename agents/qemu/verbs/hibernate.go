package verbs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/agentchannel"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/snapshot"
	"etcpve/agents/qemu/state"
	config "etcpve/cfs/format/guest"
)

// hibernate saves the state of a VM into a volume and ends it. The next start
// goes on from there.
func (j job) hibernate(ctx context.Context, c *config.Config) error {
	if storage := j.text("statestorage"); storage != "" {
		c.Main.Set("vmstatestorage", storage)
	}
	volume, err := j.beginHibernate(ctx, c)
	if err != nil {
		return err
	}
	j.log.Printf("suspending VM to '%s'", volume)
	err = j.saveState(ctx, volume)
	if err == nil {
		// From here on the VM is suspended, whatever happens: the disks stay as the
		// state knows them.
		err = j.Edit(context.WithoutCancel(ctx), j.vmid, func(c *config.Config) error {
			c.Main.Set("lock", guest.LockSuspended)
			return nil
		})
	}
	if err != nil {
		return errors.Join(err, j.undoHibernate(context.WithoutCancel(ctx)))
	}
	if err := j.End(context.WithoutCancel(ctx), j.vmid, j.log.Printf); err != nil {
		return err
	}
	j.log.Printf("State saved, quitting")
	return nil
}

// beginHibernate locks the VM and allocates the volume.
func (j job) beginHibernate(ctx context.Context, chosen *config.Config) (volume string, err error) {
	machine, cpu, err := j.Hardware(ctx, j.vmid)
	if err != nil {
		return "", err
	}
	err = j.Edit(ctx, j.vmid, func(c *config.Config) error {
		if !j.truth("skiplock") {
			if err := guest.CheckLock(c); err != nil {
				return err
			}
		}
		var err error
		if volume, err = snapshot.AllocState(ctx, j.Place, chosen, "suspend-"+time.Now().Format("2006-01-02")); err != nil {
			return err
		}
		c.Main.Set("lock", guest.LockSuspending)
		c.Main.Set("vmstate", volume)
		c.Main.Set("runningmachine", machine)
		if cpu != "" {
			c.Main.Set("runningcpu", cpu)
		}
		return nil
	})
	if err != nil && volume != "" {
		err = errors.Join(err, j.Catalog.Free(context.WithoutCancel(ctx), volume))
	}
	return volume, err
}

func (j job) saveState(ctx context.Context, volume string) error {
	saving, err := snapshot.Begin(ctx, j.Place, j.vmid, volume)
	if err != nil {
		return err
	}
	return saving.Finish(ctx)
}

// undoHibernate lets a VM go on that could not be suspended.
func (j job) undoHibernate(ctx context.Context) error {
	var failures error
	if running, err := j.Running(ctx, j.vmid); err != nil || running {
		r := err
		if err == nil {
			r = state.Abort(ctx, snapshot.Talker(j.Place, j.vmid), true)
		}
		failures = errors.Join(failures, r)
	}
	volume := ""
	err := j.Edit(ctx, j.vmid, func(c *config.Config) error {
		if c.Main.Get("lock") != guest.LockSuspending {
			return nil
		}
		volume = c.Main.Get("vmstate")
		c.Main.Delete("lock", "vmstate", "runningmachine", "runningcpu")
		return nil
	})
	if err == nil && volume != "" {
		err = j.Catalog.Free(ctx, volume)
	}
	return errors.Join(failures, err)
}

// repairSuspend finishes or undoes a suspension to disk.
func (j job) repairSuspend(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil || !j.truth("todisk") {
		return gone(err)
	}
	switch c.Main.Get("lock") {
	case guest.LockSuspending:
		j.log.Printf("undo suspension of VM %d", j.vmid)
		return j.undoHibernate(ctx)
	case guest.LockSuspended:
		return j.End(ctx, j.vmid, j.log.Printf)
	}
	return nil
}

func (j job) driver() *snapshot.Driver {
	return &snapshot.Driver{Place: j.Place, VM: j.vmid, Say: j.log.Printf, Warn: j.log.Warnf, Freeze: j.freeze}
}

// freeze stops writing in a guest that has an agent, or lets it go on.
func (j job) freeze(ctx context.Context, vmid uint32, thaw bool) error {
	r, _, err := j.Record(vmid)
	if err != nil || !agentchannel.Freezes(r.Config["agent"]) {
		return err
	}
	return agentchannel.Freeze(ctx, cmdline.RunFile(j.RunDir, vmid, "qga"), thaw)
}

// snapshotName is what the section of a snapshot can be called: one with another
// name could never be read again.
var snapshotName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]+$`)

const maxSnapshotName = 40

func (j job) snapshot(ctx context.Context) error {
	name := j.text("snapname")
	if !snapshotName.MatchString(name) || len(name) > maxSnapshotName {
		return fmt.Errorf("snapname: '%s' is not a name of 2 to %d letters, digits, '-' and '_' that begins with a letter", name, maxSnapshotName)
	}
	if name == guest.Current || name == "pending" {
		return fmt.Errorf("unable to use snapshot name '%s' (reserved name)", name)
	}
	return j.driver().Book().Create(ctx, j.vmid, name, j.truth("vmstate"), j.text("description"))
}

func (j job) delSnapshot(ctx context.Context) error {
	return j.driver().Book().Delete(ctx, j.vmid, j.text("snapname"), j.truth("force"))
}

func (j job) rollback(ctx context.Context) error {
	if err := j.driver().Book().Rollback(ctx, j.vmid, j.text("snapname")); err != nil || !j.truth("start") {
		return err
	}
	if running, err := j.Running(ctx, j.vmid); err != nil || running {
		return err
	}
	return j.become(ctx, qemu.Running, startTimeout, "running")
}

// repairSnapshot brings to an end what a dead agent began with a snapshot.
func (j job) repairSnapshot(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return gone(err)
	}
	running, err := j.Running(ctx, j.vmid)
	if err != nil {
		return err
	}
	if running && c.Main.Get("lock") == guest.LockSnapshot {
		if err := state.Abort(ctx, snapshot.Talker(j.Place, j.vmid), true); err != nil {
			return err
		}
	}
	return j.driver().Book().Repair(ctx, j.vmid, j.text("snapname"))
}
