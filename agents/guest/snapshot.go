package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Files reads and changes configurations. Edit reads, lets change work on
// what it read and saves the result if change returns no error; no other
// change comes between.
type Files interface {
	Load(ctx context.Context, vmid uint32) (*guest.Config, error)
	Edit(ctx context.Context, vmid uint32, change func(*guest.Config) error) error
}

// Volumes does to one volume what a snapshot of a guest needs.
type Volumes interface {
	Activate(ctx context.Context, volumes []guest.Volume) error
	Snapshot(ctx context.Context, v guest.Volume, name string) error
	DeleteSnapshot(ctx context.Context, v guest.Volume, name string) error
	// RollbackPossible refuses a volume that cannot return to the snapshot.
	RollbackPossible(ctx context.Context, v guest.Volume, name string) error
	Rollback(ctx context.Context, v guest.Volume, name string) error
}

// Runner knows and changes whether the guest runs.
type Runner interface {
	Running(ctx context.Context, vmid uint32) (bool, error)
	Stop(ctx context.Context, vmid uint32) error
	// CanSnapshot reports whether all volumes of the guest can have snapshots.
	CanSnapshot(ctx context.Context, c *guest.Config) (bool, error)
	// Freeze and Thaw bracket the volumes' snapshots of a running guest whose
	// memory is not saved. An error of Freeze ends the creation; a driver for
	// which that is too hard logs it.
	Freeze(ctx context.Context, c *guest.Config) error
	Thaw(ctx context.Context, c *guest.Config) error
}

// Memory saves the state of a running machine. Guests that cannot do it have
// none.
type Memory interface {
	// Save allocates a volume for the state and records in snap what is needed
	// to use it: vmstate, runningmachine, runningcpu.
	Save(ctx context.Context, c *guest.Config, snap *guest.Section, name string) error
	// Begin and End bracket the volumes' snapshots of a running machine, also
	// when no state is saved.
	Begin(ctx context.Context, vmid uint32, snap *guest.Section) error
	End(ctx context.Context, vmid uint32, snap *guest.Section) error
	Remove(ctx context.Context, vmid uint32, volume string) error
	// Resume starts the machine from a saved state on a machine type.
	Resume(ctx context.Context, vmid uint32, volume string, as Hardware) error
}

// Hardware is what a saved state must be resumed on.
type Hardware struct{ Machine, CPU, HostMTU string }

// Recorded is what is recorded beside a state.
func Recorded(s *guest.Section) Hardware {
	return Hardware{Machine: s.Get("runningmachine"), CPU: s.Get("runningcpu"), HostMTU: s.Get("running-nets-host-mtu")}
}

// Note records it beside the state.
func (h Hardware) Note(s *guest.Section) {
	for key, value := range map[string]string{"runningmachine": h.Machine, "runningcpu": h.CPU, "running-nets-host-mtu": h.HostMTU} {
		if value != "" {
			s.Set(key, value)
		}
	}
}

// Snapshots makes, removes and returns to snapshots of guests.
type Snapshots struct {
	Files   Files
	Volumes Volumes
	Runner  Runner
	Memory  Memory // nil: the guests' memory cannot be saved
	Now     func() time.Time
	Log     *slog.Logger
}

var (
	errSaveMemory   = errors.New("implement me - snapshot_save_vmstate")
	errResumeMemory = errors.New("implement me - save vmstate")
)

// An UndoneError is the failure of a snapshot that was removed again.
type UndoneError struct{ Err error }

func (e *UndoneError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UndoneError) Unwrap() error { return e.Err }

// notCopied are settings that belong to one section only.
func notCopied(key string) bool {
	switch key {
	case "snapstate", "snaptime", "vmstate", "lock", "digest", "description":
		return true
	}
	name, _, numbered := guest.Series(key)
	return numbered && name == "unused"
}

// copySettings copies what a snapshot and the running part share.
func copySettings(from, to *guest.Section) {
	for _, key := range from.Keys() {
		if !notCopied(key) {
			to.Set(key, from.Get(key))
		}
	}
	to.Raw = append([]guest.Raw(nil), from.Raw...)
}

// snapshotOf returns a snapshot of a guest.
func snapshotOf(c *guest.Config, name string) (*guest.Section, error) {
	if s := c.Snapshots[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("snapshot '%s' does not exist", name)
}

func isTemplate(c *guest.Config) bool { return c.Main.Get("template") == "1" }

// disks are the volumes that take part in snapshots: CD-ROM drives do not,
// nor do directories of the host.
func disks(kind layout.Kind, s *guest.Section) []guest.Volume {
	var out []guest.Volume
	for _, v := range guest.Volumes(kind, s) {
		if _, _, ok := v.Storage(); ok && !v.IsCDROM() {
			out = append(out, v)
		}
	}
	return out
}

// Repair brings to an end what a process that is gone has begun, if the guest is
// still locked for it: a snapshot that was being made is removed, one that was
// being removed is removed, and a rollback is done once more.
func (s *Snapshots) Repair(ctx context.Context, vmid uint32, name string) error {
	c, err := s.Files.Load(ctx, vmid)
	if err != nil {
		return err
	}
	snap := c.Snapshots[name]
	switch lock := c.Main.Get("lock"); {
	case lock == LockRollback && snap != nil:
		return s.rollBack(ctx, vmid, name, disks(c.Kind, snap))
	case lock == LockSnapshot && snap != nil && snap.Get("snapstate") == "prepare",
		lock == LockSnapshotDelete && snap != nil && snap.Get("snapstate") == "delete":
		return s.remove(ctx, vmid, name, removal{again: true})
	}
	return nil // it had not begun, or was done
}

// Prepare locks the guest and writes down the snapshot that is about to be
// made.
func (s *Snapshots) Prepare(ctx context.Context, vmid uint32, name string, memory bool, comment string) error {
	return s.Files.Edit(ctx, vmid, func(c *guest.Config) error {
		if isTemplate(c) {
			return errors.New("you can't take a snapshot if it's a template")
		}
		if err := CheckLock(c); err != nil {
			return err
		}
		if c.Snapshots[name] != nil {
			return fmt.Errorf("snapshot name '%s' already used", name)
		}
		if ok, err := s.Runner.CanSnapshot(ctx, c); err != nil || !ok {
			return noFeature(err)
		}
		s.forget(c, name)
		snap := guest.NewSection()
		copySettings(c.Main, snap)
		if err := s.saveMemory(ctx, c, snap, name, memory); err != nil {
			return err
		}
		snap.Set("snapstate", "prepare")
		snap.Set("snaptime", strconv.FormatInt(s.Now().Unix(), 10))
		if comment != "" {
			snap.Set("description", comment)
		}
		c.Snapshots[name] = snap
		c.Main.Set("lock", LockSnapshot)
		return nil
	})
}

func noFeature(err error) error {
	if err == nil {
		return errors.New("snapshot feature is not available")
	}
	return fmt.Errorf("snapshot feature is not available - %w", err)
}

// forget drops parents that name a snapshot of the past, lest the new one
// becomes its own ancestor.
func (s *Snapshots) forget(c *guest.Config, name string) {
	for other, snap := range c.Snapshots {
		if snap.Get("parent") == name {
			s.Log.Warn("drop reference to a parent that is made anew", "vmid", c.VMID, "key", other)
			snap.Delete("parent")
		}
	}
}

func (s *Snapshots) saveMemory(ctx context.Context, c *guest.Config, snap *guest.Section, name string, wanted bool) error {
	if !wanted {
		return nil
	}
	running, err := s.Runner.Running(ctx, c.VMID)
	if err != nil || !running {
		return err
	}
	if s.Memory == nil {
		return errSaveMemory
	}
	return s.Memory.Save(ctx, c, snap, name)
}

// Commit completes a prepared snapshot and unlocks the guest.
func (s *Snapshots) Commit(ctx context.Context, vmid uint32, name string) error {
	return s.Files.Edit(ctx, vmid, func(c *guest.Config) error {
		if c.Main.Get("lock") != LockSnapshot {
			return errors.New("missing snapshot lock")
		}
		snap, err := snapshotOf(c, name)
		if err != nil {
			return err
		}
		if snap.Get("snapstate") != "prepare" {
			return errors.New("wrong snapshot state")
		}
		snap.Delete("snapstate")
		c.Main.Delete("lock")
		c.Main.Set("parent", name)
		return nil
	})
}

// Create makes a snapshot of a guest and all its volumes. If a step fails,
// what was done is undone and the error is an *UndoneError.
func (s *Snapshots) Create(ctx context.Context, vmid uint32, name string, memory bool, comment string) error {
	if err := s.Prepare(ctx, vmid, name, memory, comment); err != nil {
		return err
	}
	done, err := s.snapshotVolumes(ctx, vmid, name)
	if err == nil {
		return s.Commit(ctx, vmid, name)
	}
	s.Log.Warn("snapshot failed, removing what was made", "vmid", vmid, "term", name, "err", err)
	// A cancelled creation must still be cleaned up.
	if e := s.remove(context.WithoutCancel(ctx), vmid, name, removal{force: true, only: done}); e != nil {
		s.Log.Error("remove failed snapshot", "vmid", vmid, "term", name, "err", e)
	}
	return &UndoneError{err}
}

// snapshotVolumes makes the volumes' snapshots and returns the keys of those
// that succeeded.
func (s *Snapshots) snapshotVolumes(ctx context.Context, vmid uint32, name string) (done map[string]bool, err error) {
	done = map[string]bool{}
	c, err := s.Files.Load(ctx, vmid)
	if err != nil {
		return done, err
	}
	snap, err := snapshotOf(c, name)
	if err != nil {
		return done, err
	}
	running, err := s.Runner.Running(ctx, vmid)
	if err != nil {
		return done, err
	}
	volumes := disks(c.Kind, snap)
	if err := s.Volumes.Activate(ctx, volumes); err != nil {
		return done, err
	}
	release, err := s.hold(ctx, c, snap, running)
	for _, v := range volumes {
		if err != nil {
			break
		}
		if err = s.Volumes.Snapshot(ctx, v, name); err == nil {
			done[v.Key] = true
		}
	}
	if e := release(); e != nil && snap.Has("vmstate") {
		err = errors.Join(err, e) // without the whole state the snapshot is none
	}
	return done, err
}

// hold brings a running guest to a point where its volumes agree. The
// returned function lets it go on, whatever happened, and says whether its
// state was saved.
func (s *Snapshots) hold(ctx context.Context, c *guest.Config, snap *guest.Section, running bool) (release func() error, err error) {
	var undo []func() error
	release = func() (failures error) {
		for _, step := range undo {
			failures = errors.Join(failures, step())
		}
		return failures
	}
	if !running {
		return release, nil
	}
	after := context.WithoutCancel(ctx)
	logged := func(what string, step func() error) func() error {
		return func() error {
			err := step()
			if err != nil {
				s.Log.Warn(what, "vmid", c.VMID, "err", err)
			}
			return err
		}
	}
	if !snap.Has("vmstate") {
		if err := s.Runner.Freeze(ctx, c); err != nil {
			return release, err
		}
		undo = append(undo, logged("thaw guest", func() error { return s.Runner.Thaw(after, c) }))
	}
	if s.Memory != nil {
		undo = append([]func() error{logged("end saving state", func() error { return s.Memory.End(after, c.VMID, snap) })}, undo...)
		if err := s.Memory.Begin(ctx, c.VMID, snap); err != nil {
			return release, err
		}
	}
	return release, nil
}

// inUse reports whether the running part or a snapshot names a volume.
func inUse(c *guest.Config, volume string) bool {
	sections := []*guest.Section{c.Main}
	for _, snap := range c.Snapshots {
		sections = append(sections, snap)
	}
	for _, section := range sections {
		for _, v := range guest.Volumes(c.Kind, section) {
			if v.Volume == volume {
				return true
			}
		}
	}
	return false
}

// maxUnused is the number of unusedN settings.
const maxUnused = 256

// AddUnused lists a volume under the first free unusedN, once.
func AddUnused(s *guest.Section, volume string) error {
	free := ""
	for i := maxUnused - 1; i >= 0; i-- {
		key := "unused" + strconv.Itoa(i)
		switch value, ok := s.Lookup(key); {
		case !ok:
			free = key
		case strings.TrimPrefix(value, "file=") == volume:
			return nil
		}
	}
	if free == "" {
		return errors.New("too many unused volumes - please delete them first")
	}
	s.Set(free, volume)
	return nil
}
