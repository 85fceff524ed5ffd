package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
)

// Resize grows a disk, also while the guest uses it.
func (j Work) Resize(ctx context.Context) error {
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
	for name, snap := range c.Snapshots {
		if v.Volume == volumeIn(snap, v.Key) && !j.canResizeWith(v) {
			return fmt.Errorf("can't resize volume: %s if snapshot '%s' exists", v.Volume, name)
		}
	}
	before, err := j.Catalog.Size(ctx, v.Volume)
	if err != nil {
		return err
	}
	text, relative := strings.CutPrefix(j.Text("size"), "+")
	bytes, ok := schema.ParseSize(text)
	if !ok {
		return fmt.Errorf("size: %q is not a size", j.Text("size"))
	}
	if relative {
		bytes += before
	}
	bytes = (bytes + 511) &^ 511 // in whole sectors
	if bytes < before {
		return errors.New("shrinking disks is not supported")
	}
	if bytes > before {
		if err := j.grow(ctx, v.Volume, bytes); err != nil {
			return err
		}
	}
	return j.noteSize(ctx, v, bytes)
}

// noteSize writes the size of a disk into the configuration.
func (j Work) noteSize(ctx context.Context, v config.Volume, bytes int64) error {
	return j.adopt(ctx, j.VMID, func(c *config.Config) (key, value string, err error) {
		now, err := drive(c, v.Key)
		if err != nil || now.Volume != v.Volume {
			return "", "", cmp.Or(err, errors.New("configuration was changed meanwhile"))
		}
		if now.Bus == "unused" {
			return now.Key, c.Main.Get(now.Key), nil
		}
		now.Options["size"] = schema.FormatSize(bytes)
		return now.Key, now.String(), nil
	})
}

// RepairResize writes down the size that a disk has come to.
func (j Work) RepairResize(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return job.Gone(err)
	}
	v, err := drive(c, j.Text("disk"))
	if err != nil {
		return nil // it was taken away since
	}
	bytes, err := j.Catalog.Size(ctx, v.Volume)
	if err != nil {
		return job.Gone(err)
	}
	if listed, _ := schema.ParseSize(v.Options["size"]); bytes == listed {
		return nil
	}
	return j.noteSize(ctx, v, bytes)
}

// canResizeWith reports whether a volume with snapshots may grow: qcow2 images
// keep the size of each snapshot.
func (j Work) canResizeWith(v config.Volume) bool {
	b, err := j.Catalog.Blockdev(v.Volume, "")
	return err != nil || b.Format == "qcow2" || b.Path == ""
}

// grow lets a volume grow, in QEMU too if it is open there.
func (j Work) grow(ctx context.Context, volume string, bytes int64) error {
	key, open, err := j.OpenDrive(j.VMID, volume)
	if err != nil {
		return err
	}
	if !open {
		return j.Catalog.Resize(ctx, volume, bytes)
	}
	b, err := j.Catalog.Blockdev(volume, "")
	if err == nil && !b.QEMUResizes() {
		err = j.Catalog.Resize(ctx, volume, bytes)
	}
	if err != nil {
		return err
	}
	return j.Command(ctx, j.VMID, "block_resize", map[string]any{"node-name": cmdline.NodeName(key), "size": bytes}, nil)
}
