// Package verbs is what can be done with a VM once: start and stop it, make
// snapshots, move and copy its disks, create and remove it. Each verb is a task.
//
// It owns the tables of handlers and of repairs; the work itself is done in the
// packages below, by what it is about. A verb takes the guest's "lock" where PVE does, undoes
// what it made when it fails, and notes in its task's file what it makes, so
// that after a crash of the agent its repair can undo or finish the rest.
// It never starts QEMU: that is the agent's, whom a power file tells.
package verbs

import (
	"context"

	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/verbs/disks"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/qemu/verbs/power"
	"etcpve/agents/qemu/verbs/provision"
	"etcpve/agents/task"
)

// Types of tasks, as Proxmox VE calls them.
const (
	Start, Stop, Shutdown, Reboot, Reset = "qmstart", "qmstop", "qmshutdown", "qmreboot", "qmreset"
	Suspend, Resume                      = "qmsuspend", "qmresume"
	Snapshot, DelSnapshot, Rollback      = "qmsnapshot", "qmdelsnapshot", "qmrollback"
	Create, Destroy, Clone, Template     = "qmcreate", "qmdestroy", "qmclone", "qmtemplate"
	Restore                              = "qmrestore"
	Configure, Resize, Move              = "qmconfig", "resize", "qmmove"
	CloudInit                            = "qmcloudinit" // Proxmox VE does this without a task
	ImportDisk, Rescan                   = "imgcopy", "qmrescan"
)

// Verbs do their work at a place.
type Verbs struct{ place.Place }

// A verb does the work of one task.
type verb func(context.Context, job.Job) error

func disk(do func(disks.Work, context.Context) error) verb {
	return func(ctx context.Context, j job.Job) error { return do(disks.Of(j), ctx) }
}

func run(do func(power.Work, context.Context) error) verb {
	return func(ctx context.Context, j job.Job) error { return do(power.Of(j), ctx) }
}

func shape(do func(provision.Work, context.Context) error) verb {
	return func(ctx context.Context, j job.Job) error { return do(provision.Of(j), ctx) }
}

func keep(do func(snapshots, context.Context) error) verb {
	return func(ctx context.Context, j job.Job) error { return do(snapshots{j}, ctx) }
}

// handlers makes tasks of verbs.
func (v Verbs) handlers(verbs map[string]verb) map[string]task.Handler {
	all := map[string]task.Handler{}
	for name, do := range verbs {
		all[name] = func(ctx context.Context, r task.Request, log *task.Log) error {
			vmid, err := place.VMID(r.ID)
			if err != nil {
				return err
			}
			return do(ctx, job.Job{Place: v.Place, VMID: vmid, Params: r.Params, Log: log})
		}
	}
	return all
}

// Handlers returns the tasks there are.
func (v Verbs) Handlers() map[string]task.Handler {
	return v.handlers(map[string]verb{
		Start: run(power.Work.Start), Stop: run(power.Work.Stop), Shutdown: run(power.Work.Shutdown),
		Reboot: run(power.Work.Reboot), Reset: run(power.Work.Reset),
		Suspend: run(power.Work.Suspend), Resume: run(power.Work.Resume),
		Snapshot: keep(snapshots.snapshot), DelSnapshot: keep(snapshots.delSnapshot), Rollback: keep(snapshots.rollback),
		Create: shape(provision.Work.Create), Restore: shape(provision.Work.Restore), Destroy: shape(provision.Work.Destroy),
		Clone: shape(provision.Work.Clone), Template: shape(provision.Work.Template),
		Configure: shape(provision.Work.Configure), CloudInit: shape(provision.Work.CloudInit),
		Resize: disk(disks.Work.Resize), Move: disk(disks.Work.Move),
		ImportDisk: disk(disks.Work.ImportDisk), Rescan: disk(disks.Work.Rescan),
	})
}

// Repairs returns what cleans up after a task whose agent died. A start or stop
// needs none: its power file is written, and the agent of VMs goes on.
func (v Verbs) Repairs() map[string]task.Handler {
	return v.handlers(map[string]verb{
		Suspend:  run(power.Work.RepairSuspend),
		Snapshot: keep(snapshots.repair), DelSnapshot: keep(snapshots.repair), Rollback: keep(snapshots.repair),
		Create: shape(provision.Work.RepairCreate), Restore: shape(provision.Work.RepairRestore), Destroy: shape(provision.Work.RepairDestroy),
		Clone: shape(provision.Work.RepairClone), Template: shape(provision.Work.RepairTemplate),
		Configure: shape(provision.Work.RepairConfigure), CloudInit: shape(provision.Work.RepairCloudInit),
		Resize: disk(disks.Work.RepairResize), ImportDisk: disk(disks.Work.RepairMade), Move: disk(disks.Work.RepairMove),
	})
}
