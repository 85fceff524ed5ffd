package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

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
		err = j.completing()
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

// completeKey is where a task notes, before the VM is complete, when its power file
// was written: after a crash, what is asked for besides is done as long as nobody
// has said since what the VM shall do.
const completeKey = "complete"

func (j Work) completing() error { return j.Keep(completeKey, j.powerSaid()) }

// powerSaid tells one write of the VM's power file from the next.
func (j Work) powerSaid() string {
	info, err := os.Stat(filepath.Join(j.Tree, layout.PowerDir, strconv.FormatUint(uint64(j.VMID), 10)))
	if err != nil {
		return "0"
	}
	return strconv.FormatInt(info.ModTime().UnixNano(), 10)
}

// incomplete takes that note back, before a VM that is not complete is undone: what
// is there afterwards is none, or the one before.
func (j Work) incomplete(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err = job.Gone(err); err != nil || j.Text(completeKey) == "" {
		return err
	}
	if c != nil && c.Main.Get("lock") != guest.LockCreate {
		return nil
	}
	return j.Keep(completeKey, "")
}

// goOn does what was asked for with a VM that was complete when its agent died.
func (j Work) goOn(ctx context.Context) error {
	said := j.Text(completeKey)
	if said == "" {
		return nil
	}
	if _, err := j.Load(ctx, j.VMID); err != nil {
		return job.Gone(err)
	}
	if said != j.powerSaid() { // it was told to start, or somebody has said something since
		j.Params["start"] = "0"
	}
	// Once is enough: who wants more can see why.
	if err := j.joinAndStart(ctx); err != nil && ctx.Err() == nil {
		j.Log.Warnf("%s", err)
	}
	return ctx.Err()
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
	if err := j.incomplete(ctx); err != nil {
		return err
	}
	return j.undoNew(ctx, j.VMID, guest.LockCreate)
}

// RepairCreate removes a VM that is not complete, and goes on with one that is.
func (j Work) RepairCreate(ctx context.Context) error {
	if err := j.undoCreate(ctx); err != nil {
		return err
	}
	return j.goOn(ctx)
}
