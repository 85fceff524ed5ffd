package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/host"
	"etcpve/agents/qemu/blockwriter"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/qemu/vma"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// Names of the files in an archive.
const (
	archivedConfig   = "qemu-server.conf"
	archivedFirewall = "qemu-server.fw"
)

// replacesKey is where a task notes that the VM was there before.
const replacesKey = "replaces"

// Restore makes a VM of an archive. One that is to be replaced stays as it is
// until the other is complete; then its volumes go.
func (j Work) Restore(ctx context.Context) error {
	if err := j.mayCreate(ctx); err != nil {
		return err
	}
	if j.Truth("live-restore") {
		return errors.New("live-restore is only compatible with backup images from a Proxmox Backup Server")
	}
	a, err := j.openArchive(ctx)
	if err != nil {
		return err
	}
	err = j.claimVMID(ctx)
	if err == nil {
		if err = j.restoreFrom(ctx, a); err != nil {
			err = errors.Join(fmt.Errorf("unable to restore VM %d - %w", j.VMID, err), j.undoRestore(context.WithoutCancel(ctx)))
		}
	}
	if err = errors.Join(err, a.close()); err != nil {
		return err
	}
	return j.joinAndStart(ctx)
}

// claimVMID locks the VMID for the task, with an empty configuration if there is
// none.
func (j Work) claimVMID(ctx context.Context) error {
	emsg := fmt.Sprintf("unable to restore VM %d -", j.VMID)
	g, exists, err := j.Find(ctx, j.VMID)
	switch {
	case err != nil:
		return err
	case !exists:
		return j.locked(ctx, j.VMID, guest.LockCreate)
	case !j.Truth("force") || g.Kind != layout.QEMU || g.Node != j.Node:
		return fmt.Errorf("%s VM %d already exists on node '%s'", emsg, j.VMID, g.Node)
	}
	running, err := j.Running(ctx, j.VMID)
	if err == nil && running {
		err = fmt.Errorf("%s vm is running", emsg)
	}
	if err == nil {
		err = j.Keep(replacesKey, "1")
	}
	if err != nil {
		return err
	}
	return j.Edit(ctx, j.VMID, func(c *config.Config) error {
		switch lock := c.Main.Get("lock"); {
		case c.Main.Bool(layout.QEMU, "protection"):
			return fmt.Errorf("%s protection mode enabled", emsg)
		case lock != "":
			return fmt.Errorf("%s VM is locked (%s)", emsg, lock)
		}
		c.Main.Set("lock", guest.LockCreate)
		return nil
	})
}

// restoreFrom makes the volumes and puts them into effect together.
func (j Work) restoreFrom(ctx context.Context, a *archive) error {
	text, there := a.Configs[archivedConfig]
	if !there {
		return errors.New("the archive has no configuration of a VM")
	}
	volumes, err := j.restoreVolumes(ctx, a, text)
	if err != nil {
		return err
	}
	c, _ := config.Parse(layout.QEMU, j.VMID, config.Restore(text, volumes)) // what cannot be used is refused below
	c.Main.Delete("lock")
	j.renew(c)
	for _, key := range j.settings() {
		c.Main.Set(key, j.Text(key))
	}
	if err := j.Fill(ctx, j.VMID, c.Main, j.settings()); err != nil {
		return err
	}
	if err := job.CheckText(c); err != nil {
		return err
	}
	if firewall, there := a.Configs[archivedFirewall]; there {
		if err := j.Write(ctx, fmt.Sprintf("firewall/%d.fw", j.VMID), firewall); err != nil {
			return err
		}
	}
	return j.replaceBy(ctx, c)
}

// renew gives a VM that is restored what must not be there twice.
func (j Work) renew(c *config.Config) {
	if id := c.Main.Get("vmgenid"); id != "" && id != "0" {
		c.Main.Set("vmgenid", newUUID())
	}
	if !j.Truth("unique") {
		return
	}
	newMACs(c.Main, true)
	if values, err := c.Main.Values(layout.QEMU, "smbios1"); err == nil && values != nil {
		values["uuid"] = newUUID()
		c.Main.Set("smbios1", config.Keys(layout.QEMU)["smbios1"].Format.Keys.Print(values))
	}
}

// replaceBy puts a configuration into effect, and removes the volumes that are no
// more the VM's.
func (j Work) replaceBy(ctx context.Context, c *config.Config) error {
	var doomed []string
	err := j.Edit(ctx, j.VMID, func(now *config.Config) error {
		doomed = slices.Sorted(maps.Keys(job.VolumesOf(now)))
		now.Main, now.Pending = c.Main, c.Pending
		clear(now.Snapshots)
		clear(now.Special)
		return errors.Join(j.Keep(job.DoomedKey, strings.Join(doomed, " ")), j.completing())
	})
	if err != nil {
		return err
	}
	return j.freeDoomed(context.WithoutCancel(ctx), doomed)
}

// restoreVolumes makes the volumes of an archive and fills them.
func (j Work) restoreVolumes(ctx context.Context, a *archive, text string) (volumes map[string]string, err error) {
	volumes = map[string]string{}
	targets := map[string]*target{}
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.Close())
		}
	}()
	for _, d := range config.BackupDrives(text) {
		i := slices.IndexFunc(a.Devices, func(device *vma.Device) bool { return device.Name == d.Device })
		if i < 0 {
			return nil, fmt.Errorf("%s: the archive has no device '%s'", d.Key, d.Device)
		}
		volume, err := j.restoreVolume(ctx, d, a.Devices[i].Size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Key, err)
		}
		volumes[d.Key] = volume
		t, err := j.open(ctx, volume)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Key, err)
		}
		targets[d.Device] = t
		j.Log.Printf("map '%s' to '%s'", d.Device, volume)
	}
	if err := j.restoreCloudInit(ctx, text, volumes); err != nil {
		return nil, err
	}
	err = a.Extract(func(d *vma.Device, offset int64, data []byte, length int) error {
		if t := targets[d.Name]; t != nil {
			return t.put(offset, data, length)
		}
		return nil // a device that no drive is of, as the state of a VM
	})
	return volumes, err
}

// restoreVolume makes the volume of one drive.
func (j Work) restoreVolume(ctx context.Context, d config.BackupDrive, bytes int64) (string, error) {
	id := j.Text("storage")
	if id == "" {
		id = d.Storage
	}
	s, plugin, err := j.Catalog.Find(id)
	if err == nil {
		err = s.Keeps(storage.Images)
	}
	if err != nil {
		return "", err
	}
	r := storage.Request{VMID: j.VMID, Format: d.Format, Bytes: bytes}
	if _, err := plugin.Parse(fmt.Sprintf("%d/vm-%d-disk-0.%s", j.VMID, j.VMID, r.Format)); err != nil {
		r.Format = "" // no files there: the storage's only format
	}
	volume, err := j.Alloc(ctx, id, r)
	if err == nil {
		j.Log.Printf("%s: successfully created disk '%s,size=%s'", d.Key, volume, schema.FormatSize(bytes))
	}
	return volume, err
}

// restoreCloudInit makes new cloud-init drives, which no archive has.
func (j Work) restoreCloudInit(ctx context.Context, text string, volumes map[string]string) error {
	c, _ := config.Parse(layout.QEMU, j.VMID, text)
	for _, v := range config.Volumes(layout.QEMU, c.Main) {
		if !v.IsCloudInit() {
			continue
		}
		id, _, _ := v.Storage()
		if j.Text("storage") != "" {
			id = j.Text("storage")
		}
		w := job.Wish{Volume: v}
		if err := j.AllocateCloudInit(ctx, j.VMID, &w, id); err != nil {
			return fmt.Errorf("%s: %w", v.Key, err)
		}
		volumes[v.Key] = w.Volume.Volume
	}
	return nil
}

// A target is a volume that is being filled.
type target struct {
	*blockwriter.Writer
	zeroed bool // it reads as zeros where nothing was written
}

func (j Work) open(ctx context.Context, volume string) (*target, error) {
	if err := j.Catalog.ActivateVolumes(ctx, "", volume); err != nil {
		return nil, err
	}
	b, err := j.Catalog.Blockdev(volume, "")
	if err != nil {
		return nil, err
	}
	zeroed, err := j.Catalog.Can("sparseinit", volume, "")
	if err != nil {
		return nil, err
	}
	w, err := blockwriter.Open(ctx, host.System{}, b.ImageOpts())
	if err != nil {
		return nil, err
	}
	return &target{Writer: w, zeroed: zeroed}, nil
}

func (t *target) put(offset int64, data []byte, length int) error {
	if data == nil {
		if t.zeroed {
			return nil
		}
		data = make([]byte, length)
	}
	_, err := t.WriteAt(data, offset)
	return err
}

// undoRestore takes back a VM that could not be restored. One that was to be
// replaced is as before.
func (j Work) undoRestore(ctx context.Context) error {
	if err := j.incomplete(ctx); err != nil {
		return err
	}
	if j.Params[replacesKey] == "" {
		return j.undoNew(ctx, j.VMID, guest.LockCreate)
	}
	err := j.Edit(ctx, j.VMID, func(c *config.Config) error {
		if c.Main.Get("lock") == guest.LockCreate {
			c.Main.Delete("lock")
		}
		return nil
	})
	return errors.Join(job.Gone(err), j.Discard(ctx))
}

// RepairRestore undoes what a dead agent began, or finishes it if the other VM is
// in effect already.
func (j Work) RepairRestore(ctx context.Context) error {
	err := errors.Join(j.undoRestore(ctx), j.freeDoomed(ctx, strings.Fields(j.Text(job.DoomedKey))))
	if err != nil {
		return err
	}
	return j.goOn(ctx)
}
