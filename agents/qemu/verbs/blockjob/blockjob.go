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
	"time"

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

// jobPoll is how often block jobs are looked at.
const jobPoll = 100 * time.Millisecond

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

// A progress is one job as QEMU tells of it.
type progress struct {
	ID      string
	Status  string
	Current int64 `json:"current-progress"`
	Total   int64 `json:"total-progress"`
	Error   string
}

// jobs lists the block jobs of verbs.
func (j Jobs) jobs(ctx context.Context, vmid uint32) (mine []progress, err error) {
	var all []progress
	if err := j.Command(ctx, vmid, "query-jobs", nil, &all); err != nil {
		return nil, err
	}
	for _, b := range all {
		if strings.HasPrefix(b.ID, j.tag()) {
			mine = append(mine, b)
		}
	}
	return mine, nil
}

// AwaitJobs waits until all jobs have come to a status, and tells how far they are.
func (j Jobs) AwaitJobs(ctx context.Context, vmid uint32, status string) error {
	told := map[string]int64{}
	for {
		all, err := j.jobs(ctx, vmid)
		if err != nil {
			return err
		}
		waits := 0
		for _, b := range all {
			if b.Error != "" {
				return fmt.Errorf("block job %s: %s", b.ID, b.Error)
			}
			if tenth := b.Current * 10 / max(b.Total, 1); b.Total > 0 && tenth > told[b.ID] {
				told[b.ID] = tenth
				j.Log.Printf("drive-%s: transferred %d of %d bytes (%d%%)", strings.TrimPrefix(b.ID, j.tag()), b.Current, b.Total, b.Current*100/b.Total)
			}
			if b.Status != status && b.Status != "concluded" {
				waits++
			}
		}
		if waits == 0 {
			return nil
		}
		select {
		case <-time.After(jobPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CancelJobs ends all jobs of verbs in a QEMU, and lets go of what they wrote to.
func (j Jobs) CancelJobs(ctx context.Context, vmid uint32) error {
	if running, err := j.Running(ctx, vmid); err != nil || !running {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		all, err := j.jobs(ctx, vmid)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return j.closeNodes(ctx, vmid)
		}
		for _, b := range all {
			verb, args := "job-cancel", map[string]any{"id": b.ID}
			switch b.Status {
			case "concluded":
				verb = "job-dismiss"
			case "ready", "running", "standby", "paused":
				verb, args = "block-job-cancel", map[string]any{"device": b.ID, "force": true}
			}
			// It may have come further meanwhile; the next look tells.
			_ = j.Command(ctx, vmid, verb, args, nil)
		}
		select {
		case <-time.After(jobPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeNodes lets go of the nodes that jobs wrote to and no disk uses.
func (j Jobs) closeNodes(ctx context.Context, vmid uint32) error {
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := j.Command(ctx, vmid, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, j.tag()) {
			// A node that a disk uses now is refused, and stays.
			_ = j.Command(ctx, vmid, "blockdev-del", map[string]any{"node-name": n.Name}, nil)
		}
	}
	return nil
}
