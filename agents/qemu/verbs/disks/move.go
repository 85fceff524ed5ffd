package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
)

// Move copies a disk to another storage or format and uses the copy from then on.
func (j Work) Move(ctx context.Context) error {
	if j.Text("target-vmid") != "" {
		return j.reassign(ctx)
	}
	c, err := j.Unlocked(ctx)
	if err != nil {
		return err
	}
	v, err := drive(c, j.Text("disk"))
	if err == nil {
		err = j.Fresh(c)
	}
	if err != nil {
		return err
	}
	if v.Bus == "unused" {
		return errors.New("you can't move an unused disk to another storage")
	}
	id, _, _ := v.Storage()
	source, err := j.Catalog.Blockdev(v.Volume, "")
	if err != nil {
		return err
	}
	target := j.Text("storage")
	if format := j.Text("format"); id == target && (format == "" || format == source.Format) {
		return errors.New("you can't move to the same storage with same format")
	}
	if j.Truth("delete") && j.snapshotted(c, v.Volume) {
		return errors.New("you can't move a disk with snapshots and delete the source")
	}
	bytes, err := j.Catalog.Size(ctx, v.Volume)
	if err != nil {
		return err
	}
	r := storage.Request{VMID: j.VMID, Format: j.FormatFor(j.VMID, target, &v), Bytes: bytes}
	j.Log.Printf("create full clone of drive %s (%s)", v.Key, v.Volume)
	made, err := j.Alloc(ctx, target, r)
	if err == nil {
		err = j.moveTo(ctx, v, source, made, bytes)
	}
	if err != nil {
		after := context.WithoutCancel(ctx)
		return errors.Join(fmt.Errorf("storage migration failed: %w", err), j.CancelJobs(after, j.VMID), j.Discard(after), j.Release(after, j.VMID, v.Key))
	}
	return j.leave(ctx, v.Volume)
}

// moveTo fills the new volume and switches over to it.
func (j Work) moveTo(ctx context.Context, v config.Volume, source storage.Blockdev, made string, bytes int64) error {
	moved := job.Wish{Volume: v}
	from := v.Volume
	moved.Put(made, bytes)
	_, open, err := j.OpenDrive(j.VMID, from)
	if err != nil {
		return err
	}
	if open {
		if err := j.mirror(ctx, v.Key, made); err != nil {
			return err
		}
	} else {
		limit := j.Limit(ctx, "move", from, made)
		if err := j.Catalog.Convert(ctx, source, made, limit); err != nil {
			return err
		}
	}
	switchOver := func(c *config.Config) (string, string, error) {
		if now, err := drive(c, v.Key); err != nil || now.Volume != from {
			return "", "", cmp.Or(err, errors.New("configuration was changed meanwhile"))
		}
		if err := guest.AddUnused(c.Main, from); err != nil {
			return "", "", err
		}
		return v.Key, moved.String(), nil
	}
	if !open {
		return j.adopt(ctx, j.VMID, switchOver)
	}
	// QEMU switches over under the lock of the guest, so that the agent never sees
	// a configuration that QEMU does not follow.
	return j.EditWith(ctx, j.VMID, func(c *config.Config) error {
		key, value, err := switchOver(c)
		if err == nil {
			c.Main.Set(key, value)
			err = j.Hold(j.VMID, v.Key)
		}
		if err != nil {
			return err
		}
		return j.pivot(ctx, v.Key)
	}, func() error { return j.Adopt(j.VMID, map[string]string{v.Key: moved.String()}) })
}

// mirror lets QEMU copy a disk, and keep the copy the same from then on.
func (j Work) mirror(ctx context.Context, key, made string) error {
	node := cmdline.NodeName(key)
	r, _, err := j.Record(j.VMID)
	if err != nil {
		return err
	}
	o, err := r.Config.Options(key, "file")
	if err != nil {
		return err
	}
	name := j.JobName(node)
	limit := j.Limit(ctx, "move", o["file"], made)
	err = j.QMP(ctx, j.VMID, func(m *monitor.Monitor) error {
		if err := j.OpenNode(ctx, m, name, made); err != nil {
			return err
		}
		replaced, err := j.below(ctx, m, node, o["file"])
		if err != nil {
			return err
		}
		return m.Run(ctx, "blockdev-mirror", map[string]any{
			"job-id": name, "device": node, "target": name, "replaces": replaced, "sync": "full",
			"speed": limit << 10, "auto-dismiss": false, "auto-finalize": true,
		}, nil)
	})
	if err != nil {
		return err
	}
	return j.AwaitJobs(ctx, j.VMID, "ready")
}

// below returns the node with the format of a disk, under its throttle.
func (j Work) below(ctx context.Context, m *monitor.Monitor, node, volume string) (string, error) {
	path, err := j.Catalog.Path(volume)
	if err != nil {
		return "", err
	}
	var nodes []struct {
		Name   string `json:"node-name"`
		Driver string `json:"drv"`
		File   string `json:"file"`
	}
	if err := m.Run(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return "", err
	}
	b, err := j.Catalog.Blockdev(volume, "")
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if n.Driver == b.Format && n.File == path && n.Name != node {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("QEMU has no node for '%s'", volume)
}

// pivot makes QEMU use the copy.
func (j Work) pivot(ctx context.Context, key string) error {
	name := j.JobName(cmdline.NodeName(key))
	if err := j.Command(ctx, j.VMID, "job-complete", map[string]any{"id": name}, nil); err != nil {
		return err
	}
	if err := j.AwaitJobs(ctx, j.VMID, "concluded"); err != nil {
		return err
	}
	return j.Command(ctx, j.VMID, "job-dismiss", map[string]any{"id": name}, nil)
}

// leave removes the volume that was moved, if that is wanted.
func (j Work) leave(ctx context.Context, volume string) error {
	if !j.Truth("delete") {
		return nil
	}
	return j.dropUnused(ctx, volume)
}

// dropUnused frees an unused volume and its entry.
func (j Work) dropUnused(ctx context.Context, volume string) error {
	if err := j.Catalog.Free(ctx, volume); err != nil {
		j.Log.Warnf("could not remove '%s': %s", volume, err)
		return nil
	}
	return j.Edit(ctx, j.VMID, func(c *config.Config) error {
		for _, key := range c.Main.Series("unused") {
			if strings.TrimPrefix(c.Main.Get(key), "file=") == volume {
				c.Main.Delete(key)
			}
		}
		return nil
	})
}
