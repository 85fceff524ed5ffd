package provision

import (
	"context"
	"errors"
	"fmt"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/qemu/verbs/power"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Create makes a VM with the volumes it asks for.
func (j Work) Create(ctx context.Context) error {
	if err := j.mayCreate(ctx); err != nil {
		return err
	}
	c := config.New(layout.QEMU, j.VMID)
	for _, key := range j.settings() {
		c.Main.Set(key, j.Text(key))
	}
	complete(c)
	lock := c.Main.Get("lock")
	if err := j.locked(ctx, c.VMID, guest.LockCreate); err != nil {
		return err
	}
	err := j.Fill(ctx, j.VMID, c.Main, c.Main.Keys())
	if err == nil {
		err = job.CheckText(c)
	}
	if err == nil {
		if c.Main.Delete("lock"); lock != "" {
			c.Main.Set("lock", lock)
		}
		err = j.Edit(ctx, j.VMID, func(now *config.Config) error { now.Main = c.Main; return nil })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("unable to create VM %d - %w", j.VMID, err), j.undoCreate(context.WithoutCancel(ctx)))
	}
	return j.joinAndStart(ctx)
}

// mayCreate checks what is asked for beside settings.
func (j Work) mayCreate(ctx context.Context) error {
	if err := j.hasPool(ctx, j.Text("pool")); err != nil {
		return err
	}
	for _, key := range []string{"storage", "import-working-storage"} {
		if id := j.Text(key); id != "" {
			s, _, err := j.Catalog.Find(id)
			if err == nil {
				err = s.Keeps(storage.Images)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return nil
}

// joinAndStart does what is asked for with a VM that is complete. From here on
// nothing takes it back.
func (j Work) joinAndStart(ctx context.Context) error {
	if err := j.joinPool(ctx, j.Text("pool"), j.VMID); err != nil {
		return err
	}
	starts := j.Truth("start")
	if j.Truth("ha-managed") {
		if err := j.manage(ctx, map[bool]string{true: "started", false: "stopped"}[starts]); err != nil {
			return err
		}
	}
	if !starts {
		return nil
	}
	return power.Of(j.Job).Start(ctx)
}

// undoCreate removes a VM that could not be made, if it is still locked for that.
func (j Work) undoCreate(ctx context.Context) error {
	return j.undoNew(ctx, j.VMID, guest.LockCreate)
}

func (j Work) RepairCreate(ctx context.Context) error { return j.undoCreate(ctx) }
