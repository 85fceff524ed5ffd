// Package snapshot is the part of a VM's snapshots that touches volumes, QEMU
// and the guest; package guest keeps the book.
//
// Volumes that a running QEMU has open and snapshots itself are left to it, all
// others to their storage while the guest stands still. The state of a running
// machine goes into a volume of its own.
//
// It never edits a configuration, and starts a VM only to resume it.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/state"
	"etcpve/agents/storage"
	"etcpve/cfs/format/guest"

	book "etcpve/agents/guest"
)

// A Driver does the work of one task. Its methods are not called at the same time.
type Driver struct {
	place.Place
	VM     uint32
	Say    func(format string, args ...any) // for the log of the task
	Warn   func(format string, args ...any)
	Alloc  Allocator
	Freeze func(ctx context.Context, vmid uint32, thaw bool) error // the guest's file systems; nil: nobody can

	saving *state.Saving // between Begin and End, with the machine's state
	paused bool          // between Begin and End, without it
}

// Book returns what keeps the book over this driver.
func (d *Driver) Book() *book.Snapshots {
	return &book.Snapshots{Files: d.Place, Volumes: volumes{d}, Runner: runner{d}, Memory: memory{d}, Now: time.Now, Log: d.Log}
}

type (
	volumes struct{ *Driver }
	runner  struct{ *Driver }
	memory  struct{ *Driver }
)

// Activate makes the paths of volumes exist.
func (d volumes) Activate(ctx context.Context, all []guest.Volume) error {
	for _, v := range all {
		if err := d.Catalog.ActivateVolumes(ctx, "", v.Volume); err != nil {
			return err
		}
	}
	return nil
}

// open returns the key under which a running QEMU has a volume, and how; "" if it
// does not.
func (d *Driver) open(vmid uint32, volume string) (key string, b storage.Blockdev, err error) {
	r, _, err := d.Record(vmid)
	running, e := d.Running(context.Background(), vmid)
	if err = errors.Join(err, e); err != nil || !running {
		return "", b, err
	}
	for _, key := range append(r.Config.DriveKeys(), "efidisk0") {
		o, err := r.Config.Options(key, "file")
		if err != nil || o["file"] != volume {
			continue
		}
		b, err = d.Catalog.Blockdev(volume, "")
		return key, b, err
	}
	return "", b, nil
}

// Snapshot keeps the state of a volume.
func (d volumes) Snapshot(ctx context.Context, v guest.Volume, name string) error {
	d.Say("snapshotting 'drive-%s' (%s)", v.Key, v.Volume)
	key, b, err := d.open(d.VM, v.Volume)
	switch {
	case err != nil:
		return err
	case key != "" && b.Chain != nil:
		return d.onChain(ctx, key, v.Volume, b.Chain, func(c *chainedDisk) error { return c.extend(ctx, name) })
	case key != "" && b.QEMUSnapshots():
		return d.Command(ctx, d.VM, "blockdev-snapshot-internal-sync", map[string]any{"device": cmdline.NodeName(key), "name": name}, nil)
	}
	return d.Catalog.Snapshot(ctx, v.Volume, name)
}

// DeleteSnapshot forgets a state; one that is not there is gone already.
func (d volumes) DeleteSnapshot(ctx context.Context, v guest.Volume, name string) error {
	key, b, err := d.open(d.VM, v.Volume)
	switch {
	case err != nil:
		return err
	case key != "" && b.Chain != nil:
		err = d.onChain(ctx, key, v.Volume, b.Chain, func(c *chainedDisk) error { return c.shorten(ctx, name) })
	case key != "" && b.QEMUSnapshots():
		err = d.Command(ctx, d.VM, "blockdev-snapshot-delete-internal-sync", map[string]any{"device": cmdline.NodeName(key), "name": name}, nil)
	default:
		err = d.Catalog.DeleteSnapshot(ctx, v.Volume, name)
	}
	if err != nil && (strings.Contains(err.Error(), "snapshot not found") || strings.Contains(err.Error(), "does not exist on device")) {
		d.Warn("%s has no snapshot '%s'", v.Volume, name)
		return nil
	}
	return err
}

// RollbackPossible refuses a volume that cannot return to the snapshot.
func (d volumes) RollbackPossible(ctx context.Context, v guest.Volume, name string) error {
	return d.Catalog.RollbackPossible(ctx, v.Volume, name)
}

// Rollback returns a volume to the snapshot.
func (d volumes) Rollback(ctx context.Context, v guest.Volume, name string) error {
	d.Say("rolling back '%s'", v.Volume)
	return d.Catalog.Rollback(ctx, v.Volume, name)
}

// Stop ends the guest, whose lock is held.
func (d runner) Stop(ctx context.Context, vmid uint32) error { return d.EndWithin(ctx, vmid, d.Say) }

// CanSnapshot reports whether all volumes of the guest can have snapshots.
func (d runner) CanSnapshot(_ context.Context, c *guest.Config) (bool, error) {
	for _, v := range guest.Volumes(c.Kind, c.Main) {
		if _, _, ok := v.Storage(); !ok || v.IsCDROM() {
			continue
		}
		can, err := d.Catalog.Can("snapshot", v.Volume, "")
		if err == nil && !can {
			err = fmt.Errorf("%s: no snapshots of '%s': its format or storage has none", v.Key, v.Volume)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Freeze stops writing in the guest, if it can be asked to. That it could not is
// no reason to make no snapshot.
func (d runner) Freeze(ctx context.Context, c *guest.Config) error {
	if d.Driver.Freeze == nil {
		return nil
	}
	if err := d.Driver.Freeze(ctx, c.VMID, false); err != nil {
		d.Warn("freezing the guest's file systems: %s", err)
	}
	return nil
}

// Thaw lets the guest write again.
func (d runner) Thaw(ctx context.Context, c *guest.Config) error {
	if d.Driver.Freeze == nil {
		return nil
	}
	return d.Driver.Freeze(ctx, c.VMID, true)
}

// Save allocates a volume for the state of the machine.
func (d memory) Save(ctx context.Context, c *guest.Config, snap *guest.Section, name string) error {
	volume, err := AllocState(ctx, d.Catalog, d.Driver.Alloc, c, name)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	snap.Set("vmstate", volume)
	on, err := d.Hardware(ctx, c.VMID)
	if err != nil {
		return errors.Join(err, d.Catalog.Free(ctx, volume))
	}
	on.Note(snap)
	return nil
}

// Begin makes the guest stand still, with its state saved if it is wanted.
func (d memory) Begin(ctx context.Context, vmid uint32, snap *guest.Section) error {
	volume := snap.Get("vmstate")
	if volume == "" {
		return d.pause(ctx, vmid)
	}
	d.Say("saving VM state and RAM")
	saving, err := Begin(ctx, d.Place, vmid, volume)
	d.saving = saving
	return err
}

func (d memory) pause(ctx context.Context, vmid uint32) error {
	status, err := d.Status(ctx, vmid)
	if err != nil || status != "running" {
		return err
	}
	d.paused = true
	return d.Command(ctx, vmid, "stop", nil, nil)
}

// End lets the guest go on.
func (d memory) End(ctx context.Context, vmid uint32, _ *guest.Section) error {
	saving := d.saving
	if d.saving = nil; saving != nil {
		if err := saving.Finish(ctx); err != nil {
			return err
		}
		d.Say("completed saving the VM state")
		return saving.Continue(ctx)
	}
	if !d.paused {
		return nil
	}
	d.paused = false
	return d.Command(ctx, vmid, "cont", nil, nil)
}

// Remove removes a saved state.
func (d memory) Remove(ctx context.Context, _ uint32, volume string) error {
	return d.Catalog.Free(ctx, volume)
}

// resumeWait is how long a guest may take to come back.
const resumeWait = 10 * time.Minute

// Resume starts the guest in a saved state.
func (d memory) Resume(ctx context.Context, vmid uint32, volume string, on book.Hardware) error {
	if err := d.ResumeFrom(vmid, state.Resumption{Volume: volume, Machine: on.Machine, CPU: on.CPU, HostMTU: on.HostMTU}); err != nil {
		return err
	}
	since, err := d.Place.Begin(ctx, vmid, qemu.Running)
	if err != nil {
		return err
	}
	return d.Await(ctx, vmid, since, resumeWait, func(status string) bool { return status == "running" })
}

// stateOverhead is the room, in bytes, for the state of devices.
const stateOverhead = int64(500) << 20

// An Allocator makes a volume on a storage, and notes for whom.
type Allocator func(ctx context.Context, storageID string, r storage.Request) (string, error)

// AllocState allocates a volume for the state of a machine and returns its ID.
func AllocState(ctx context.Context, catalog storage.Catalog, alloc Allocator, c *guest.Config, name string) (string, error) {
	id, err := stateStorage(catalog, c)
	if err != nil {
		return "", err
	}
	file := fmt.Sprintf("vm-%d-state-%s", c.VMID, name)
	_, plugin, err := catalog.Find(id)
	if err != nil {
		return "", err
	}
	// Storages that keep files want an ending, all others none.
	if _, err := plugin.Parse(fmt.Sprintf("%d/%s.raw", c.VMID, file)); err == nil {
		file += ".raw"
	}
	memory := int64(guest.Memory(c.Kind, c.Main)) << 20
	return alloc(ctx, id, storage.Request{VMID: c.VMID, Format: "raw", Name: file, Bytes: 2*memory + stateOverhead})
}

// stateStorage chooses where the state of a machine goes: where the
// configuration says, else beside the guest's disks, on a shared storage rather
// than on one of this node.
func stateStorage(c storage.Catalog, config *guest.Config) (string, error) {
	if id := config.Main.Get("vmstatestorage"); id != "" {
		return id, nil
	}
	own := ""
	for _, v := range guest.Volumes(config.Kind, config.Main) {
		id, _, ok := v.Storage()
		if !ok || v.IsCDROM() {
			continue
		}
		s, _, err := c.Find(id)
		switch {
		case err != nil || s.Keeps(storage.Images) != nil:
		case s.Shared():
			return id, nil
		case own == "":
			own = id
		}
	}
	if own == "" {
		own = "local"
	}
	return own, nil
}

// Begin begins to save the state of a machine into a volume.
func Begin(ctx context.Context, p place.Place, vmid uint32, volume string) (*state.Saving, error) {
	if err := p.Catalog.ActivateVolumes(ctx, "", volume); err != nil {
		return nil, err
	}
	b, err := p.Catalog.Blockdev(volume, "")
	if err != nil {
		return nil, err
	}
	if b.Path == "" {
		return nil, fmt.Errorf("volume '%s': a state needs a file or device", volume)
	}
	return state.Begin(ctx, Talker(p, vmid), cmdline.RunFile(p.RunDir, vmid, "state"), b.Path)
}

// Talker runs commands against a VM.
func Talker(p place.Place, vmid uint32) state.Talker {
	return func(ctx context.Context, command string, args map[string]any, result any) error {
		return p.Command(ctx, vmid, command, args, result)
	}
}
