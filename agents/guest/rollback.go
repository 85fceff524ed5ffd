package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Rollback returns a guest to a snapshot. The guest is stopped; if the
// machine's state was saved it is resumed, otherwise it stays stopped. If a
// volume fails midway the guest stays locked.
func (s *Snapshots) Rollback(ctx context.Context, vmid uint32, name string) error {
	var volumes []guest.Volume
	err := s.Files.Edit(ctx, vmid, func(c *guest.Config) error {
		if isTemplate(c) {
			return errors.New("you can't rollback if vm is a template")
		}
		snap, err := snapshotOf(c, name)
		if err != nil {
			return err
		}
		volumes = disks(c.Kind, snap)
		if err := s.rollbackPossible(ctx, c, name, volumes); err != nil {
			return err
		}
		c.Main.Set("lock", LockRollback)
		return nil
	})
	if err != nil {
		return err
	}
	return s.rollBack(ctx, vmid, name, volumes)
}

// rollBack returns the volumes and the configuration of a guest that is locked
// for it. It may be repeated.
func (s *Snapshots) rollBack(ctx context.Context, vmid uint32, name string, volumes []guest.Volume) error {
	for _, v := range volumes {
		if err := s.Volumes.Rollback(ctx, v, name); err != nil {
			return err
		}
	}
	var state string
	var on Hardware
	err := s.Files.Edit(ctx, vmid, func(c *guest.Config) (err error) {
		state, on, err = apply(c, name)
		return err
	})
	switch {
	case err != nil || state == "":
		return err
	case s.Memory == nil:
		return errResumeMemory
	}
	return s.Memory.Resume(ctx, vmid, state, on)
}

// rollbackPossible makes all checks and stops the guest, which is the last
// thing that can be refused.
func (s *Snapshots) rollbackPossible(ctx context.Context, c *guest.Config, name string, volumes []guest.Volume) error {
	if err := s.Volumes.Activate(ctx, volumes); err != nil {
		return err
	}
	for _, v := range volumes {
		if err := s.Volumes.RollbackPossible(ctx, v, name); err != nil {
			return err
		}
	}
	if state := c.Snapshots[name].Get("snapstate"); state != "" {
		return fmt.Errorf("unable to rollback to incomplete snapshot (snapstate = %s)", state)
	}
	if err := CheckLock(c); err != nil {
		return err
	}
	if err := s.Runner.Stop(ctx, c.VMID); err != nil {
		return err
	}
	running, err := s.Runner.Running(ctx, c.VMID)
	if err == nil && running {
		err = fmt.Errorf("unable to rollback vm %d: vm is running", c.VMID)
	}
	return err
}

// apply makes the running part a copy of a snapshot. It returns the saved
// state, if there is one, and what it must be resumed on.
func apply(c *guest.Config, name string) (state string, on Hardware, err error) {
	snap, err := snapshotOf(c, name)
	if err != nil {
		return "", on, err
	}
	if c.Main.Get("lock") != LockRollback {
		return "", on, errors.New("got wrong lock")
	}
	old := c.Main
	c.Main = guest.NewSection()
	for _, key := range append(old.Keys(), "description") {
		series, _, numbered := guest.Series(key)
		if value, ok := old.Lookup(key); ok && (key == "description" || numbered && series == "unused") {
			c.Main.Set(key, value)
		}
	}
	copySettings(snap, c.Main)
	c.Main.Set("parent", name)
	// What waited was meant for the state that is given up.
	c.Pending = guest.NewSection()
	delete(c.Special, "cloudinit")
	for _, v := range disks(c.Kind, old) {
		if !names(c.Kind, snap, v.Volume) {
			if err := AddUnused(c.Main, v.Volume); err != nil {
				return "", on, err
			}
		}
	}
	state = snap.Get("vmstate")
	if c.Kind == layout.QEMU {
		on = takeHardware(c.Main, state != "", old.Has("machine"))
		renewGeneration(c.Main)
	}
	return state, on, nil
}

func names(kind layout.Kind, s *guest.Section, volume string) bool {
	for _, v := range disks(kind, s) {
		if v.Volume == volume {
			return true
		}
	}
	return false
}

// oldestMachine is what a state was saved on when snapshots did not record it.
const oldestMachine = "pc-i440fx-1.4"

// takeHardware moves the record of the hardware that ran from the settings
// to the result. Snapshots without that record carry it as their machine
// type, which is taken away unless the guest had set one.
func takeHardware(main *guest.Section, resumed, hadMachine bool) Hardware {
	on := Recorded(main)
	if on.Machine == "" {
		machine, err := main.Values(layout.QEMU, "machine")
		if on.Machine = machine["type"]; err != nil || on.Machine == "" {
			on.Machine = oldestMachine
		}
		if resumed && !hadMachine {
			main.Delete("machine")
		}
	}
	main.Delete("runningmachine", "runningcpu", "running-nets-host-mtu")
	return on
}

// renewGeneration tells the system in the guest that its past has changed.
func renewGeneration(main *guest.Section) {
	if id := main.Get("vmgenid"); id == "" || id == "0" {
		return
	}
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 4122 variant
	main.Set("vmgenid", fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
