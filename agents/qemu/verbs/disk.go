package verbs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// drive returns a disk of a VM by its key.
func drive(c *config.Config, key string) (config.Volume, error) {
	if !c.Main.Has(key) {
		return config.Volume{}, fmt.Errorf("disk '%s' does not exist", key)
	}
	if strings.HasPrefix(key, "unused") {
		return config.Volume{Kind: layout.QEMU, Key: key, Bus: "unused", Volume: strings.TrimPrefix(c.Main.Get(key), "file=")}, nil
	}
	v, err := config.ParseVolume(layout.QEMU, key, c.Main.Get(key))
	if err != nil {
		return v, err
	}
	if v.IsCDROM() {
		return v, errors.New("you can't do this with a cdrom")
	}
	if _, _, ok := v.Storage(); !ok {
		return v, fmt.Errorf("disk '%s' is not on a storage", key)
	}
	return v, nil
}

// A wording is an error in the words that users and scripts know.
type wording string

func (w wording) Error() string { return string(w) }

const errModified = wording("detected modified configuration - file changed by other user? Try again.")

// digest refuses a configuration that somebody else has saved since.
func (j job) digest(c *config.Config) error {
	if digest := j.text("digest"); digest != "" && digest != c.Digest {
		return errModified
	}
	return nil
}

// resize grows a disk, also while the guest uses it.
func (j job) resize(ctx context.Context) error {
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	v, err := drive(c, j.text("disk"))
	if err == nil {
		err = j.digest(c)
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
	text, relative := strings.CutPrefix(j.text("size"), "+")
	bytes, ok := schema.ParseSize(text)
	if !ok {
		return fmt.Errorf("size: %q is not a size", j.text("size"))
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
	return j.adopt(ctx, j.vmid, func(c *config.Config) (key, value string, err error) {
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

// canResizeWith reports whether a volume with snapshots may grow: qcow2 images
// keep the size of each snapshot.
func (j job) canResizeWith(v config.Volume) bool {
	b, err := j.Catalog.Blockdev(v.Volume, "")
	return err != nil || b.Format == "qcow2" || b.Path == ""
}

func volumeIn(s *config.Section, key string) string {
	v, err := config.ParseVolume(layout.QEMU, key, s.Get(key))
	if err != nil {
		return ""
	}
	return v.Volume
}

// grow lets a volume grow, in QEMU too if it is open there.
func (j job) grow(ctx context.Context, volume string, bytes int64) error {
	key, open, err := j.openDrive(j.vmid, volume)
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
	return j.Command(ctx, j.vmid, "block_resize", map[string]any{"node-name": cmdline.NodeName(key), "size": bytes}, nil)
}

// adopt saves the setting of a drive of which the verb has made true what it
// says, so that the agent has nothing left to do for it.
func (j job) adopt(ctx context.Context, vmid uint32, change func(*config.Config) (key, value string, err error)) error {
	var key, value string
	return j.EditWith(ctx, vmid, func(c *config.Config) (err error) {
		if key, value, err = change(c); err == nil {
			c.Main.Set(key, value)
		}
		return err
	}, func() error {
		if strings.HasPrefix(key, "unused") {
			return nil
		}
		return j.Adopt(vmid, map[string]string{key: value})
	})
}

// move copies a disk to another storage or format and uses the copy from then on.
func (j job) move(ctx context.Context) error {
	if j.text("target-vmid") != "" {
		return j.reassign(ctx)
	}
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	v, err := drive(c, j.text("disk"))
	if err == nil {
		err = j.digest(c)
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
	target := j.text("storage")
	if format := j.text("format"); id == target && (format == "" || format == source.Format) {
		return errors.New("you can't move to the same storage with same format")
	}
	if j.truth("delete") && j.snapshotted(c, v.Volume) {
		return errors.New("you can't move a disk with snapshots and delete the source")
	}
	bytes, err := j.Catalog.Size(ctx, v.Volume)
	if err != nil {
		return err
	}
	k := cloning{job: j, newID: j.vmid}
	r := storage.Request{VMID: j.vmid, Format: k.formatFor(target, &v), Bytes: bytes}
	j.log.Printf("create full clone of drive %s (%s)", v.Key, v.Volume)
	made, err := j.alloc(ctx, target, r)
	if err == nil {
		err = j.moveTo(ctx, v, source, made, bytes)
	}
	if err != nil {
		after := context.WithoutCancel(ctx)
		return errors.Join(fmt.Errorf("storage migration failed: %w", err), j.cancelJobs(after, j.vmid), j.discard(after), j.Release(after, j.vmid, v.Key))
	}
	return j.leave(ctx, v.Volume)
}

// snapshotted reports whether a snapshot names a volume.
func (j job) snapshotted(c *config.Config, volume string) bool {
	for _, snap := range c.Snapshots {
		for _, v := range owned(snap) {
			if v.Volume == volume {
				return true
			}
		}
	}
	return false
}

// moveTo fills the new volume and switches over to it.
func (j job) moveTo(ctx context.Context, v config.Volume, source storage.Blockdev, made string, bytes int64) error {
	moved := wish{Volume: v}
	from := v.Volume
	moved.place(made, bytes)
	_, open, err := j.openDrive(j.vmid, from)
	if err != nil {
		return err
	}
	if open {
		if err := j.mirror(ctx, v.Key, made); err != nil {
			return err
		}
	} else {
		limit, _ := strconv.ParseInt(j.text("bwlimit"), 10, 64) // 0, which is none, if it is not given
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
		return j.adopt(ctx, j.vmid, switchOver)
	}
	// QEMU switches over under the lock of the guest, so that the agent never sees
	// a configuration that QEMU does not follow.
	return j.EditWith(ctx, j.vmid, func(c *config.Config) error {
		key, value, err := switchOver(c)
		if err == nil {
			c.Main.Set(key, value)
			err = j.Hold(j.vmid, v.Key)
		}
		if err != nil {
			return err
		}
		return j.pivot(ctx, v.Key)
	}, func() error { return j.Adopt(j.vmid, map[string]string{v.Key: moved.String()}) })
}

// mirror lets QEMU copy a disk, and keep the copy the same from then on.
func (j job) mirror(ctx context.Context, key, made string) error {
	node := cmdline.NodeName(key)
	r, _, err := j.Record(j.vmid)
	if err != nil {
		return err
	}
	o, err := r.Config.Options(key, "file")
	if err != nil {
		return err
	}
	name := j.jobName(node)
	limit, _ := strconv.ParseInt(j.text("bwlimit"), 10, 64) // 0, which is none, if it is not given
	err = j.QMP(ctx, j.vmid, func(m *monitor.Monitor) error {
		if err := j.openNode(ctx, m, name, made); err != nil {
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
	return j.awaitJobs(ctx, j.vmid, "ready")
}

// below returns the node with the format of a disk, under its throttle.
func (j job) below(ctx context.Context, m *monitor.Monitor, node, volume string) (string, error) {
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
func (j job) pivot(ctx context.Context, key string) error {
	name := j.jobName(cmdline.NodeName(key))
	if err := j.Command(ctx, j.vmid, "job-complete", map[string]any{"id": name}, nil); err != nil {
		return err
	}
	if err := j.awaitJobs(ctx, j.vmid, "concluded"); err != nil {
		return err
	}
	return j.Command(ctx, j.vmid, "job-dismiss", map[string]any{"id": name}, nil)
}

// leave removes the volume that was moved, if that is wanted.
func (j job) leave(ctx context.Context, volume string) error {
	if !j.truth("delete") {
		return nil
	}
	return j.dropUnused(ctx, volume)
}

// dropUnused frees an unused volume and its entry.
func (j job) dropUnused(ctx context.Context, volume string) error {
	if err := j.Catalog.Free(ctx, volume); err != nil {
		j.log.Warnf("could not remove '%s': %s", volume, err)
		return nil
	}
	return j.Edit(ctx, j.vmid, func(c *config.Config) error {
		for _, key := range c.Main.Series("unused") {
			if strings.TrimPrefix(c.Main.Get(key), "file=") == volume {
				c.Main.Delete(key)
			}
		}
		return nil
	})
}

// repairMove removes what a move made and nothing uses. If QEMU had switched
// over when the agent died, the configuration is made to say so.
func (j job) repairMove(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return errors.Join(gone(err), j.discard(ctx))
	}
	made := strings.Fields(j.params[madeKey])
	key := j.text("disk")
	if len(made) == 1 && c.Main.Has(key) {
		if done, err := j.pivoted(ctx, key, made[0]); err != nil {
			return err
		} else if done {
			return j.catchUp(ctx, key, made[0])
		}
	}
	return errors.Join(j.cancelJobs(ctx, j.vmid), j.discard(ctx), j.Release(ctx, j.vmid, key))
}

// pivoted reports whether a running QEMU uses the copy already.
func (j job) pivoted(ctx context.Context, key, made string) (bool, error) {
	if running, err := j.Running(ctx, j.vmid); err != nil || !running {
		return false, err
	}
	path, err := j.Catalog.Path(made)
	if err != nil {
		return false, nil
	}
	var blocks []blockInfo
	if err := j.Command(ctx, j.vmid, "query-block", nil, &blocks); err != nil {
		return false, err
	}
	return slices.ContainsFunc(blocks, func(b blockInfo) bool {
		return b.Inserted.Image.file() == path && strings.Contains("/"+b.QDev+"/", "/"+key+"/")
	}), nil
}

// blockInfo is what QEMU says of a disk.
type blockInfo struct {
	QDev     string `json:"qdev"`
	Inserted struct {
		Image imageInfo `json:"image"`
	} `json:"inserted"`
}

type imageInfo struct {
	Filename string     `json:"filename"`
	Below    *imageInfo `json:"backing-image"`
}

// file is the name of the image: of what only passes data on, as a throttle does,
// QEMU gives a description in JSON, and names what lies below.
func (i imageInfo) file() string {
	for strings.HasPrefix(i.Filename, "json:") && i.Below != nil {
		i = *i.Below
	}
	return i.Filename
}

// catchUp makes the configuration name the copy that QEMU uses.
func (j job) catchUp(ctx context.Context, key, made string) error {
	return j.adopt(ctx, j.vmid, func(c *config.Config) (string, string, error) {
		v, err := drive(c, key)
		if err != nil || v.Volume == made {
			return key, c.Main.Get(key), err
		}
		if err := guest.AddUnused(c.Main, v.Volume); err != nil {
			return "", "", err
		}
		bytes, err := j.Catalog.Size(ctx, made)
		moved := wish{Volume: v}
		moved.place(made, bytes)
		return key, moved.String(), err
	})
}
