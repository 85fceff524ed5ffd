package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/place"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// reassign gives a disk to another VM.
func (j job) reassign(ctx context.Context) error {
	target, err := place.VMID(j.text("target-vmid"))
	if err != nil {
		return fmt.Errorf("target-vmid: %w", err)
	}
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	v, err := drive(c, j.text("disk"))
	if err != nil {
		return err
	}
	key := j.text("target-disk")
	if key == "" {
		key = v.Key
	}
	other := job{Verbs: j.Verbs, vmid: target, params: j.params, log: j.log}
	to, err := other.load(ctx)
	if err != nil {
		return err
	}
	_, open, err := j.openDrive(j.vmid, v.Volume)
	switch {
	case err != nil:
		return err
	case open:
		return fmt.Errorf("cannot move disk of a running VM (%d)", j.vmid)
	case to.Main.Has(key):
		return fmt.Errorf("target key '%s' is already in use", key)
	case j.snapshotted(c, v.Volume):
		return errors.New("you can't reassign a disk with snapshots")
	}
	made, err := j.Catalog.Rename(ctx, v.Volume, target, "")
	if err != nil {
		return err
	}
	j.log.Printf("moving disk '%s' from VM '%d' to '%d'", v.Key, j.vmid, target)
	v.Volume = made.String()
	value := v.Volume
	if !strings.HasPrefix(key, "unused") && v.Bus != "unused" {
		value = v.String()
	}
	err = j.Edit(ctx, target, func(c *config.Config) error { c.Main.Set(key, value); return checkText(c) })
	if err != nil {
		return err
	}
	return j.Edit(ctx, j.vmid, func(c *config.Config) error { c.Main.Delete(j.text("disk")); return nil })
}

// template makes the disks of a stopped VM bases that clones stand on.
func (j job) template(ctx context.Context) error {
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	running, err := j.Running(ctx, j.vmid)
	switch {
	case err != nil:
		return err
	case c.Main.Bool(layout.QEMU, "template") && j.text("disk") == "":
		return errors.New("you can't convert a template to a template")
	case len(c.Snapshots) > 0:
		return errors.New("you can't convert a VM to template if VM has snapshots")
	case running:
		return errors.New("you can't convert a VM to template if VM is running")
	}
	return j.toTemplate(ctx)
}

// toTemplate converts disk by disk. It may be repeated: a disk of which only the
// name in the configuration is left to be changed is found under its new one.
func (j job) toTemplate(ctx context.Context) error {
	err := j.Edit(ctx, j.vmid, func(c *config.Config) error { c.Main.Set("template", "1"); return nil })
	if err != nil {
		return err
	}
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return err
	}
	for _, v := range config.Volumes(layout.QEMU, c.Main) {
		if _, _, ok := v.Storage(); !ok || v.IsCDROM() || j.text("disk") != "" && j.text("disk") != v.Key {
			continue
		}
		at, err := j.Catalog.Locate(v.Volume)
		if err != nil {
			return err
		}
		if at.Volume.IsBase || at.Volume.Base != "" {
			continue
		}
		if v.Volume, err = j.base(ctx, v.Volume); err != nil {
			return fmt.Errorf("%s: %w", v.Key, err)
		}
		err = j.Edit(ctx, j.vmid, func(c *config.Config) error { c.Main.Set(v.Key, v.String()); return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// base makes a base of a volume, unless that was done already.
func (j job) base(ctx context.Context, volume string) (string, error) {
	if _, err := j.Catalog.Size(ctx, volume); errors.Is(err, os.ErrNotExist) {
		renamed := strings.Replace(volume, "vm-", "base-", 1)
		if _, err := j.Catalog.Size(ctx, renamed); err == nil {
			return renamed, nil
		}
	}
	made, err := j.Catalog.CreateBase(ctx, volume)
	return made.String(), err
}

func (j job) repairTemplate(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil || !c.Main.Bool(layout.QEMU, "template") {
		return gone(err)
	}
	return j.toTemplate(ctx)
}

// importDisk makes a volume of an image, as an unused disk or as a drive.
func (j job) importDisk(ctx context.Context) error {
	if _, err := j.load(ctx); err != nil {
		return err
	}
	w := wish{Volume: config.Volume{Kind: layout.QEMU, Key: "unused0", Bus: "unused", Options: schema.Values{}}, from: j.text("source")}
	if format := j.text("format"); format != "" {
		w.Options["format"] = format
	}
	target := j.text("target-disk")
	if target != "" {
		v, err := config.ParseVolume(layout.QEMU, target, "none,media=cdrom")
		if err != nil {
			return err
		}
		v.Options, w.Volume = w.Options, v
	}
	j.log.Printf("importing disk '%s' to VM %d ...", w.from, j.vmid)
	err := j.fillFrom(ctx, j.vmid, &w, j.text("storage"))
	key := target
	if err == nil {
		err = j.Edit(ctx, j.vmid, func(c *config.Config) error {
			if target == "" {
				if err := guest.AddUnused(c.Main, w.Volume.Volume); err != nil {
					return err
				}
				key = unusedOf(c, w.Volume.Volume)
				return nil
			}
			if c.Main.Has(target) {
				return fmt.Errorf("target disk '%s' already exists", target)
			}
			c.Main.Set(target, w.String())
			return checkText(c)
		})
	}
	if err != nil {
		return errors.Join(err, j.discard(context.WithoutCancel(ctx)))
	}
	j.log.Printf("%s: successfully imported disk '%s'", key, w.Volume.Volume)
	return nil
}

func unusedOf(c *config.Config, volume string) string {
	for _, key := range c.Main.Series("unused") {
		if strings.TrimPrefix(c.Main.Get(key), "file=") == volume {
			return key
		}
	}
	return ""
}

// repairMade removes what a task made and no configuration names.
func (j job) repairMade(ctx context.Context) error { return j.discard(ctx) }

// rescan notes the sizes that volumes have, and lists as unused what belongs to
// VMs and is named nowhere.
func (j job) rescan(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return err
	}
	found, err := j.unnamed(ctx)
	if err != nil {
		return err
	}
	change := func(c *config.Config) error {
		for _, v := range config.Volumes(layout.QEMU, c.Main) {
			w := wish{Volume: v}
			if err := j.existing(ctx, &w); err != nil {
				j.log.Warnf("%s: %s", v.Key, err)
				continue
			}
			if now := w.String(); w.Options["size"] != "" && now != c.Main.Get(v.Key) {
				j.log.Printf("VM %d (%s): size of disk '%s' updated to %s", j.vmid, v.Key, v.Volume, w.Options["size"])
				c.Main.Set(v.Key, now)
			}
		}
		for _, volume := range found {
			if err := guest.AddUnused(c.Main, volume); err != nil {
				return err
			}
			j.log.Printf("VM %d: add unreferenced volume '%s' as '%s' to config", j.vmid, volume, unusedOf(c, volume))
		}
		return nil
	}
	if j.truth("dryrun") {
		return change(c)
	}
	return j.Edit(ctx, j.vmid, change)
}

// unnamed are the volumes of the VM that no configuration names.
func (j job) unnamed(ctx context.Context) (all []string, err error) {
	storages, err := j.Catalog.Configs()
	if err != nil {
		return nil, err
	}
	for _, s := range storages {
		if s.Keeps(storage.Images) != nil {
			continue
		}
		listed, err := j.Catalog.List(ctx, s.ID, storage.Images, j.vmid)
		if err != nil {
			j.log.Warnf("storage '%s': %s", s.ID, err)
			continue
		}
		for _, i := range listed {
			volume := s.ID + ":" + i.Name
			named, err := j.named(volume)
			if err != nil {
				return nil, err
			}
			if !named && !strings.Contains(i.Name, "-cloudinit") && !strings.Contains(i.Name, "-state-") {
				all = append(all, volume)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// configure changes settings, with the volumes that this makes and gives up.
func (j job) configure(ctx context.Context) error {
	c, err := j.load(ctx)
	if err == nil {
		err = j.digest(c)
	}
	if err != nil {
		return err
	}
	wanted := config.NewSection()
	for _, key := range j.settings() {
		wanted.Set(key, j.text(key))
	}
	newMACs(wanted, false)
	if err := j.fill(ctx, j.vmid, wanted, wanted.Keys()); err != nil {
		return errors.Join(err, j.discard(context.WithoutCancel(ctx)))
	}
	var doomed []string
	err = j.Edit(ctx, j.vmid, func(c *config.Config) error {
		doomed, err = j.assign(c, wanted)
		return errors.Join(err, checkText(c))
	})
	if err != nil {
		return errors.Join(err, j.discard(context.WithoutCancel(ctx)))
	}
	for _, volume := range doomed {
		// It may be in use under another key by now, or by a snapshot.
		if named, err := j.named(volume); err != nil || named {
			if err != nil {
				return err
			}
			continue
		}
		if err := j.freeUnused(ctx, volume); err != nil {
			return err
		}
	}
	return nil
}

// assign changes a configuration and returns the volumes that are to be removed.
func (j job) assign(c *config.Config, wanted *config.Section) (doomed []string, err error) {
	for _, key := range j.list("revert") {
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
	}
	for _, key := range j.list("delete") {
		old := c.Main.Get(key)
		c.Main.Delete(key)
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
		gone, err := j.giveUp(c, key, old)
		doomed = append(doomed, gone...)
		if err != nil {
			return doomed, err
		}
	}
	for _, key := range append(wanted.Keys(), "description") {
		if !wanted.Has(key) {
			continue
		}
		old := c.Main.Get(key)
		c.Main.Set(key, wanted.Get(key))
		c.Pending.Delete(key)
		c.Pending.DropDeletion(key)
		if _, err := j.giveUp(c, key, old); err != nil {
			return doomed, err
		}
	}
	return doomed, nil
}

// giveUp lists the volume of a setting that is no more as unused, or returns it
// to be removed: one that was unused already, or of which this is wanted.
func (j job) giveUp(c *config.Config, key, old string) (doomed []string, err error) {
	volume := strings.TrimPrefix(old, "file=")
	if !strings.HasPrefix(key, "unused") {
		v, err := config.ParseVolume(layout.QEMU, key, old)
		if _, _, ok := v.Storage(); err != nil || !ok || v.IsCDROM() && !v.IsCloudInit() {
			return nil, nil
		}
		if volume = v.Volume; v.IsCloudInit() {
			return []string{volume}, nil
		}
	}
	owner, err := j.Catalog.Locate(volume)
	switch {
	case old == "" || err != nil || owner.Volume.VMID != j.vmid || volumesOf(c)[volume]:
		return nil, nil
	case strings.HasPrefix(key, "unused") || j.truth("force"):
		return []string{volume}, nil
	}
	return nil, guest.AddUnused(c.Main, volume)
}

// freeUnused removes a volume that was given up. While QEMU still has it, it
// becomes unused instead.
func (j job) freeUnused(ctx context.Context, volume string) error {
	if _, open, err := j.openDrive(j.vmid, volume); err != nil || open {
		if err != nil {
			return err
		}
		j.log.Warnf("'%s' is still in use, and kept as unused", volume)
		return j.Edit(ctx, j.vmid, func(c *config.Config) error { return guest.AddUnused(c.Main, volume) })
	}
	return j.freeOwn(ctx, volume)
}
