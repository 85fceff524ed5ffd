package verbs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// settings are the parameters that are keys of a configuration.
func (j job) settings() (keys []string) {
	table := config.Keys(layout.QEMU)
	for key := range j.params {
		if table[key] != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// create makes a VM with the volumes it asks for.
func (j job) create(ctx context.Context) error {
	c := config.New(layout.QEMU, j.vmid)
	for _, key := range j.settings() {
		c.Main.Set(key, j.text(key))
	}
	complete(c)
	lock := c.Main.Get("lock")
	if err := j.locked(c.VMID, guest.LockCreate); err != nil {
		return err
	}
	err := j.fill(ctx, j.vmid, c.Main, c.Main.Keys())
	if err == nil {
		err = checkText(c)
	}
	if err == nil {
		if c.Main.Delete("lock"); lock != "" {
			c.Main.Set("lock", lock)
		}
		err = j.Edit(ctx, j.vmid, func(now *config.Config) error { now.Main = c.Main; return nil })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("unable to create VM %d - %w", j.vmid, err), j.undoCreate(context.WithoutCancel(ctx)))
	}
	if !j.truth("start") {
		return nil
	}
	return j.start(ctx)
}

// locked creates an empty configuration that is locked for the task.
func (j job) locked(vmid uint32, lock string) error {
	c := config.New(layout.QEMU, vmid)
	c.Main.Set("lock", lock)
	return j.Create(c)
}

// complete sets what every new VM has.
func complete(c *config.Config) {
	if !c.Main.Has("smbios1") {
		c.Main.Set("smbios1", "uuid="+newUUID())
	}
	if !c.Main.Has("vmgenid") {
		c.Main.Set("vmgenid", newUUID())
	}
	if !c.Main.Has("meta") {
		c.Main.Set("meta", "ctime="+strconv.FormatInt(time.Now().Unix(), 10))
	}
	if c.Main.Get("vmgenid") == "1" {
		c.Main.Set("vmgenid", newUUID())
	}
	newMACs(c.Main, false)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 4122 variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// macPrefix is the vendor part of addresses that are made up.
const macPrefix = "BC:24:11"

// newMACs gives NICs an address that have none, or all of them.
func newMACs(s *config.Section, all bool) {
	for _, key := range s.Series("net") {
		n, err := config.ParseNet(layout.QEMU, key, s.Get(key))
		if err == nil && (all || n.Options["macaddr"] == "") {
			n.Options["macaddr"] = newMAC()
			s.Set(key, n.String())
		}
	}
}

func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s:%02X:%02X:%02X", macPrefix, b[0], b[1], b[2])
}

// checkText refuses what the file system would refuse, with its place.
func checkText(c *config.Config) error {
	refusals, _ := config.Check(layout.QEMU, c.VMID, c.Text())
	var errs []error
	for _, r := range refusals {
		errs = append(errs, r)
	}
	return errors.Join(errs...)
}

// undoCreate removes a VM that could not be made, if it is still locked for that.
func (j job) undoCreate(ctx context.Context) error {
	return j.undoNew(ctx, j.vmid, guest.LockCreate)
}

// undoNew removes a new VM with its volumes while its lock says that it is not
// complete.
func (j job) undoNew(ctx context.Context, vmid uint32, lock string) error {
	c, err := j.Load(ctx, vmid)
	if err == nil && c.Main.Get("lock") != lock {
		return nil // it was completed, or is not this task's
	}
	if err = gone(err); err != nil {
		return err
	}
	if c != nil {
		if err := os.Remove(filepath.Join(j.Tree, j.Path(vmid))); gone(err) != nil {
			return err
		}
	}
	return j.discard(ctx)
}

// destroy removes a stopped VM with all its volumes.
func (j job) destroy(ctx context.Context) error {
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	if c.Main.Bool(layout.QEMU, "protection") {
		return fmt.Errorf("can't remove VM %d - protection mode enabled", j.vmid)
	}
	running, err := j.Running(ctx, j.vmid)
	if err == nil && running {
		err = fmt.Errorf("VM %d is running - destroy failed", j.vmid)
	}
	if err != nil {
		return err
	}
	managed, err := j.highlyAvailable(j.vmid)
	if err != nil {
		return err
	}
	if managed && !j.truth("purge") {
		return fmt.Errorf("unable to remove VM %d - used in HA resources and purge parameter not set", j.vmid)
	}
	return j.remove(ctx, c)
}

// remove frees all volumes and then forgets the VM. It may be repeated.
func (j job) remove(ctx context.Context, c *config.Config) error {
	if err := j.basesFree(ctx, c); err != nil {
		return err
	}
	volumes := volumesOf(c)
	for _, volume := range slices.Sorted(mapsKeys(volumes)) {
		if err := j.freeOwn(ctx, volume); err != nil {
			// A volume that cannot be removed must not keep the rest.
			j.log.Warnf("could not remove disk '%s': %s", volume, err)
		}
	}
	if j.truth("destroy-unreferenced-disks") {
		if err := j.freeUnreferenced(ctx); err != nil {
			return err
		}
	}
	doomed := []string{layout.PowerDir + "/" + strconv.FormatUint(uint64(j.vmid), 10), fmt.Sprintf("firewall/%d.fw", j.vmid)}
	if j.truth("purge") {
		if err := j.purge(); err != nil {
			return err
		}
	}
	for _, path := range append(doomed, j.Path(j.vmid)) {
		if err := os.Remove(filepath.Join(j.Tree, path)); gone(err) != nil {
			return err
		}
	}
	return nil
}

// basesFree refuses to remove a template that linked clones stand on, before
// anything of it is gone.
func (j job) basesFree(ctx context.Context, c *config.Config) error {
	for volume := range volumesOf(c) {
		at, err := j.Catalog.Locate(volume)
		if err != nil || !at.Volume.IsBase {
			continue
		}
		all, err := j.Catalog.List(ctx, at.ID.Storage, storage.Images, 0)
		if err != nil {
			return err
		}
		for _, i := range all {
			if v, err := at.Plugin.Parse(i.Name); err == nil && v.Base == at.Volume.File && v.BaseVMID == at.Volume.VMID {
				return fmt.Errorf("base volume '%s' is still in use by linked cloned volume '%s:%s'", volume, at.ID.Storage, i.Name)
			}
		}
	}
	return nil
}

// freeOwn removes a volume that belongs to the VM and is there.
func (j job) freeOwn(ctx context.Context, volume string) error {
	at, err := j.Catalog.Locate(volume)
	if err != nil || at.Volume.VMID != j.vmid || at.Volume.Content != storage.Images {
		return err
	}
	if _, err := j.Catalog.Size(ctx, volume); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	j.log.Printf("removing volume '%s'", volume)
	return j.Catalog.Free(ctx, volume)
}

// freeUnreferenced removes volumes of the VMID that its configuration does not name.
func (j job) freeUnreferenced(ctx context.Context) error {
	storages, err := j.Catalog.Configs()
	if err != nil {
		return err
	}
	for _, s := range storages {
		if s.Keeps(storage.Images) != nil {
			continue
		}
		all, err := j.Catalog.List(ctx, s.ID, storage.Images, j.vmid)
		if err != nil {
			j.log.Warnf("storage '%s': %s", s.ID, err)
			continue
		}
		for _, i := range all {
			if err := j.freeOwn(ctx, s.ID+":"+i.Name); err != nil {
				j.log.Warnf("could not remove disk '%s:%s': %s", s.ID, i.Name, err)
			}
		}
	}
	return nil
}

func (j job) repairDestroy(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return gone(err)
	}
	if running, err := j.Running(ctx, j.vmid); err != nil || running || c.Main.Bool(layout.QEMU, "protection") {
		return err // it has come to be used since
	}
	return j.remove(ctx, c)
}

// list reads a parameter that is a list.
func (j job) list(name string) []string { return schema.SplitList(j.text(name)) }
