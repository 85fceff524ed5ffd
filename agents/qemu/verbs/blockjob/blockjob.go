// Package blockjob lets a running QEMU copy disks for a task.
//
// It owns the names of the block jobs and of the nodes they write to, which tell
// a repair what is whose, and their end: a task that fails leaves none. It never
// changes which volume a guest uses.
package blockjob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/verbs/job"
)

// Jobs are the block jobs of one task.
type Jobs struct{ job.Job }

// A Backup is a copy that a running QEMU makes of a disk as it is when all
// copies of one task begin.
type Backup struct {
	Node, From, To string // QEMU's node, and the volumes
	Limit          int64  // KiB/s
}

// tag begins the names of the block jobs of this task, and of the nodes they
// write to.
func (j Jobs) tag() string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(j.Params)) {
		if !job.Notes(key) {
			fmt.Fprintf(sum, "%s=%s\n", key, j.Params[key])
		}
	}
	return fmt.Sprintf("verb-%x-", sum.Sum(nil)[:4])
}

// JobName names the block job for a drive.
func (j Jobs) JobName(node string) string { return j.tag() + strings.TrimPrefix(node, "drive-") }

// OpenDrive returns the key under which a running QEMU has a volume.
func (j Jobs) OpenDrive(vmid uint32, volume string) (key string, ok bool, err error) {
	r, _, err := j.Record(vmid)
	if err != nil {
		return "", false, err
	}
	if running, err := j.Running(context.Background(), vmid); err != nil || !running {
		return "", false, err
	}
	for _, key := range append(r.Config.DriveKeys(), "efidisk0") {
		if o, err := r.Config.Options(key, "file"); err == nil && o["file"] == volume && volume != "" {
			return key, true, nil
		}
	}
	return "", false, nil
}

// OpenNode lets QEMU open a volume under the name of a node.
func (j Jobs) OpenNode(ctx context.Context, m *monitor.Monitor, name, volume string) error {
	if err := j.Catalog.ActivateVolumes(ctx, "", volume); err != nil {
		return err
	}
	b, err := j.Catalog.Blockdev(volume, "")
	if err != nil {
		return err
	}
	cache := map[string]any{"direct": true, "no-flush": false}
	file := map[string]any{"cache": cache, "discard": "unmap"}
	for key, value := range b.Node {
		file[key] = value
	}
	return m.Run(ctx, "blockdev-add", map[string]any{
		"node-name": name, "driver": b.Format, "file": file, "cache": cache, "discard": "unmap",
	}, nil)
}

// BackUp lets a running QEMU copy disks, all as they are now.
func (j Jobs) BackUp(ctx context.Context, vmid uint32, copies []*Backup) (err error) {
	if len(copies) == 0 {
		return nil
	}
	var actions []map[string]any
	err = j.QMP(ctx, vmid, func(m *monitor.Monitor) error {
		for _, b := range copies {
			name := j.JobName(b.Node)
			if err := j.OpenNode(ctx, m, name, b.To); err != nil {
				return err
			}
			actions = append(actions, map[string]any{"type": "blockdev-backup", "data": map[string]any{
				"job-id": name, "device": b.Node, "target": name, "sync": "full", "speed": b.Limit << 10, "auto-dismiss": false,
			}})
		}
		return m.Run(ctx, "transaction", map[string]any{"actions": actions, "properties": map[string]any{"completion-mode": "grouped"}}, nil)
	})
	if err == nil {
		err = j.AwaitJobs(ctx, vmid, "concluded")
	}
	return errors.Join(err, j.CancelJobs(context.WithoutCancel(ctx), vmid))
}

// set is the block jobs of this task in a QEMU.
func (j Jobs) set(vmid uint32) Set {
	return Set{Prefix: j.tag(), Talk: func(ctx context.Context, command string, args map[string]any, result any) error {
		return j.Command(ctx, vmid, command, args, result)
	}}
}

// AwaitJobs waits until all jobs have come to a status, or have ended, and tells how
// far they are.
func (j Jobs) AwaitJobs(ctx context.Context, vmid uint32, status string) error {
	done := func(p Progress) (bool, error) {
		if p.Error != "" {
			return false, fmt.Errorf("block job %s: %s", p.ID, p.Error)
		}
		return p.Status == status || p.Status == "concluded", nil
	}
	return j.set(vmid).Await(ctx, done, func(name, progress string) { j.Log.Printf("drive-%s: %s", name, progress) })
}

// CancelJobs ends all jobs of verbs in a QEMU, and lets go of what they wrote to.
func (j Jobs) CancelJobs(ctx context.Context, vmid uint32) error {
	if running, err := j.Running(ctx, vmid); err != nil || !running {
		return err
	}
	all := j.set(vmid)
	if err := all.Cancel(ctx); err != nil {
		return err
	}
	_, err := all.Close(ctx) // what a disk uses now is refused, and stays
	return err
}
