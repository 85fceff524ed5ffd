// Package verbs is what can be done with a VM once: start and stop it, make
// snapshots, move and copy its disks, create and remove it. Each verb is a task.
//
// It owns the tables of handlers and of repairs, the parameters of each task and
// the lines in its log. A verb takes the guest's "lock" where PVE does, undoes
// what it made when it fails, and notes in its task's file what it makes, so
// that after a crash of the agent its repair can undo or finish the rest.
// It never starts QEMU: that is the agent's, whom a power file tells.
package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/place"
	"etcpve/agents/task"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
)

// Types of tasks, as Proxmox VE calls them.
const (
	Start, Stop, Shutdown, Reboot, Reset = "qmstart", "qmstop", "qmshutdown", "qmreboot", "qmreset"
	Suspend, Resume                      = "qmsuspend", "qmresume"
	Snapshot, DelSnapshot, Rollback      = "qmsnapshot", "qmdelsnapshot", "qmrollback"
	Create, Destroy, Clone, Template     = "qmcreate", "qmdestroy", "qmclone", "qmtemplate"
	Configure, Resize, Move              = "qmconfig", "resize", "qmmove"
	ImportDisk, Rescan                   = "imgcopy", "qmrescan"
)

// Verbs do their work at a place.
type Verbs struct{ place.Place }

// A job is one task with the VM it is about.
type job struct {
	Verbs
	vmid   uint32
	params map[string]string
	log    *task.Log
}

func (j job) text(name string) string { return j.params[name] }

func (j job) truth(name string) bool {
	truth, _ := schema.Bool(j.params[name])
	return truth
}

// seconds reads a time-out.
func (j job) seconds(name string, otherwise time.Duration) time.Duration {
	if n, err := strconv.Atoi(j.params[name]); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	return otherwise
}

// handler makes a task of a verb.
func (v Verbs) handler(do func(job, context.Context) error) task.Handler {
	return func(ctx context.Context, r task.Request, log *task.Log) error {
		vmid, err := place.VMID(r.ID)
		if err != nil {
			return err
		}
		return do(job{Verbs: v, vmid: vmid, params: r.Params, log: log}, ctx)
	}
}

// Handlers returns the tasks there are.
func (v Verbs) Handlers() map[string]task.Handler {
	all := map[string]task.Handler{}
	for name, do := range map[string]func(job, context.Context) error{
		Start: job.start, Stop: job.stop, Shutdown: job.shutdown, Reboot: job.reboot, Reset: job.reset,
		Suspend: job.suspend, Resume: job.resume,
		Snapshot: job.snapshot, DelSnapshot: job.delSnapshot, Rollback: job.rollback,
		Create: job.create, Destroy: job.destroy, Clone: job.clone, Template: job.template,
		Configure: job.configure, Resize: job.resize, Move: job.move, ImportDisk: job.importDisk, Rescan: job.rescan,
	} {
		all[name] = v.handler(do)
	}
	return all
}

// Repairs returns what cleans up after a task whose agent died. A start or stop
// needs none: its power file is written, and the agent of VMs goes on.
func (v Verbs) Repairs() map[string]task.Handler {
	all := map[string]task.Handler{}
	for name, do := range map[string]func(job, context.Context) error{
		Suspend: job.repairSuspend, Snapshot: job.repairSnapshot, DelSnapshot: job.repairSnapshot, Rollback: job.repairSnapshot,
		Create: job.repairCreate, Destroy: job.repairDestroy, Clone: job.repairClone, Template: job.repairTemplate,
		Configure: job.repairMade, ImportDisk: job.repairMade, Move: job.repairMove,
	} {
		all[name] = v.handler(do)
	}
	return all
}

// load reads the configuration of a VM that is not locked, or whose lock is to
// be ignored.
func (j job) load(ctx context.Context) (*config.Config, error) {
	c, err := j.Load(ctx, j.vmid)
	if err == nil && !j.truth("skiplock") {
		err = guest.CheckLock(c)
	}
	return c, err
}

// running returns the configuration of a VM that runs and is not locked.
func (j job) running(ctx context.Context) (*config.Config, error) {
	c, err := j.load(ctx)
	if err != nil {
		return nil, err
	}
	running, err := j.Running(ctx, j.vmid)
	if err == nil && !running {
		err = fmt.Errorf("VM %d not running", j.vmid)
	}
	return c, err
}

// gone forgives a VM that is not there: nothing of it can be repaired.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
