package verbs

import (
	"context"
	"fmt"
	"regexp"

	"etcpve/agents/guest"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/agentchannel"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/snapshot"
	"etcpve/agents/qemu/state"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/qemu/verbs/power"
	config "etcpve/cfs/format/guest"
)

// snapshots is one task about snapshots.
type snapshots struct{ job.Job }

func (j snapshots) driver() *snapshot.Driver {
	return &snapshot.Driver{Place: j.Place, VM: j.VMID, Say: j.Log.Printf, Warn: j.Log.Warnf, Alloc: j.Alloc, Freeze: j.freeze}
}

// freeze stops writing in a guest that has an agent, or lets it go on.
func (j snapshots) freeze(ctx context.Context, vmid uint32, thaw bool) error {
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

func (j snapshots) snapshot(ctx context.Context) error {
	name := j.Text("snapname")
	if !snapshotName.MatchString(name) || len(name) > maxSnapshotName {
		return fmt.Errorf("snapname: '%s' is not a name of 2 to %d letters, digits, '-' and '_' that begins with a letter", name, maxSnapshotName)
	}
	if name == guest.Current || name == "pending" {
		return fmt.Errorf("unable to use snapshot name '%s' (reserved name)", name)
	}
	return j.driver().Book().Create(ctx, j.VMID, name, j.Truth("vmstate"), j.Text("description"))
}

func (j snapshots) delSnapshot(ctx context.Context) error {
	return j.driver().Book().Delete(ctx, j.VMID, j.Text("snapname"), j.Truth("force"))
}

func (j snapshots) rollback(ctx context.Context) error {
	book := j.driver().Book()
	book.Files = noting{j}
	if err := book.Rollback(ctx, j.VMID, j.Text("snapname")); err != nil || !j.Truth("start") {
		return err
	}
	if running, err := j.Running(ctx, j.VMID); err != nil || running {
		return err
	}
	return j.Become(ctx, qemu.Running, power.StartTimeout, "running")
}

// noting notes that the configuration of a rollback is about to be in effect:
// only the saved memory has to be resumed then.
type noting struct{ snapshots }

func (n noting) Edit(ctx context.Context, vmid uint32, change func(*config.Config) error) error {
	return n.Place.Edit(ctx, vmid, func(c *config.Config) error {
		err := change(c)
		if err == nil && !c.Main.Has("lock") {
			err = n.Keep(job.BegunKey, "1")
		}
		return err
	})
}

// resume starts a VM in the memory of the snapshot that it was returned to, if
// the agent that did so came no further.
func (j snapshots) resume(ctx context.Context, c *config.Config, running bool) error {
	snap := c.Snapshots[j.Text("snapname")]
	if running || snap == nil || !j.Truth(job.BegunKey) || c.Main.Has("lock") || c.Main.Get("parent") != j.Text("snapname") || !snap.Has("runningmachine") {
		return nil
	}
	return j.driver().Book().Memory.Resume(ctx, j.VMID, snap.Get("vmstate"), guest.Recorded(snap))
}

// repair brings to an end what a dead agent began with a snapshot.
func (j snapshots) repair(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return job.Gone(err)
	}
	running, err := j.Running(ctx, j.VMID)
	if err != nil {
		return err
	}
	if running && c.Main.Get("lock") == guest.LockSnapshot {
		if err := state.Abort(ctx, snapshot.Talker(j.Place, j.VMID), true); err != nil {
			return err
		}
	}
	if err := j.resume(ctx, c, running); err != nil {
		return err
	}
	if err := j.driver().Book().Repair(ctx, j.VMID, j.Text("snapname")); err != nil {
		return err
	}
	return j.Discard(ctx)
}
