package guest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
	"etcpve/fixtures/golden"
)

type snapshotCase struct {
	Name, Operation, Snapname, Comment string
	VMID                               uint32
	SaveVMState                        bool `json:"save_vmstate"`
	Force                              bool
	Input, Expected                    string
	Error                              *string
	Taken                              map[string]string `json:"volume_snapshots_taken"`
	Deleted                            map[string]string `json:"volume_snapshots_deleted"`
	RolledBack                         map[string]string `json:"volumes_rolled_back"`
	Environment                        environment
}

type environment struct {
	Running      bool            `json:"guest_running"`
	Activate     bool            `json:"storage_can_activate"`
	Feature      bool            `json:"snapshot_feature_available"`
	Freeze       bool            `json:"filesystem_freeze_works"`
	SaveState    *bool           `json:"saving_vm_state_works"`
	QMP          map[string]bool `json:"qmp"`
	Snapshotable []string        `json:"volumes_that_can_be_snapshotted"`
	Deletable    []string        `json:"volumes_whose_snapshot_can_be_deleted"`
	Returnable   []string        `json:"volumes_reporting_rollback_possible"`
	Rollable     []string        `json:"volumes_that_can_be_rolled_back"`
	Stops        *bool           `json:"stopping_guest_works"`
}

func TestGoldenSnapshots(t *testing.T) {
	for suite, kind := range map[string]layout.Kind{"qemu-config": layout.QEMU, "lxc-config": layout.LXC} {
		t.Run(suite, func(t *testing.T) {
			dir := filepath.Join(golden.Dir(t, suite), "snapshot")
			for _, c := range golden.Cases[snapshotCase](t, suite, "snapshot") {
				golden.Case(t, suite, "snapshot/"+c.Name, func(t *testing.T) { runSnapshotCase(t, dir, kind, c) })
			}
		})
	}
}

func runSnapshotCase(t *testing.T, dir string, kind layout.Kind, c snapshotCase) {
	content, err := os.ReadFile(filepath.Join(dir, c.Input))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, c.Expected))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(kind, string(content))
	w.allow(c.Environment)
	s := w.snapshots()
	ctx := context.Background()
	switch c.Operation {
	case "prepare":
		err = s.Prepare(ctx, c.VMID, c.Snapname, c.SaveVMState, c.Comment)
	case "commit":
		err = s.Commit(ctx, c.VMID, c.Snapname)
	case "create":
		err = s.Create(ctx, c.VMID, c.Snapname, c.SaveVMState, c.Comment)
	case "delete":
		err = s.Delete(ctx, c.VMID, c.Snapname, c.Force)
	case "rollback":
		err = s.Rollback(ctx, c.VMID, c.Snapname)
	default:
		t.Fatalf("unknown operation %s", c.Operation)
	}
	if got, want := published(err), deref(c.Error); got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if w.content != string(want) {
		t.Errorf("file\n%s\nwant\n%s", w.content, want)
	}
	compareCalls(t, "taken", w.taken, c.Taken)
	compareCalls(t, "deleted", w.deleted, c.Deleted)
	compareCalls(t, "rolled back", w.rolledBack, c.RolledBack)
}

// published is the text in which the tools show an error: with a line feed,
// and one more if a half-made snapshot was removed.
func published(err error) string {
	if err == nil {
		return ""
	}
	var undone *UndoneError
	if errors.As(err, &undone) {
		return err.Error() + "\n\n"
	}
	return err.Error() + "\n"
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func compareCalls(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if want != nil && !reflect.DeepEqual(got, want) {
		t.Errorf("snapshots %s %v, want %v", what, got, want)
	}
}

// A world is one guest with storages that remember what was asked of them.
type world struct {
	kind                       layout.Kind
	content                    string
	running                    bool
	frozen                     bool
	fails                      map[string]error // by action, or action and volume
	taken, deleted, rolledBack map[string]string
	log                        []string
	resumed                    Hardware
}

func newWorld(kind layout.Kind, content string) *world {
	return &world{
		kind: kind, content: content, fails: map[string]error{},
		taken: map[string]string{}, deleted: map[string]string{}, rolledBack: map[string]string{},
	}
}

func (w *world) snapshots() *Snapshots {
	s := &Snapshots{Files: w, Volumes: w, Runner: (*runner)(w), Now: func() time.Time { return time.Unix(1234567890, 0) }, Log: slog.New(slog.DiscardHandler)}
	if w.kind == layout.QEMU {
		s.Memory = (*memory)(w)
	}
	return s
}

// allow lets fail what the environment does not list.
func (w *world) allow(e environment) {
	w.running = e.Running
	unless := func(ok bool, action, text string) {
		if !ok {
			w.fails[action] = errors.New(text)
		}
	}
	unless(e.Activate, "activate", "storage activation failed")
	unless(e.Feature, "feature", "")
	unless(e.Freeze, "freeze", "freeze disabled")
	unless(e.SaveState == nil || *e.SaveState, "save", "save_vmstate failed")
	unless(e.Stops == nil || *e.Stops, "stop", "")
	for _, command := range []string{"savevm-start", "savevm-end"} {
		unless(e.QMP == nil || e.QMP[command], command, command+" disabled")
	}
	w.only("snapshot", e.Snapshotable, "volume snapshot disabled")
	w.only("delete", e.Deletable, "volume snapshot delete disabled")
	w.only("possible", e.Returnable, "volume_rollback_is_possible failed")
	w.only("rollback", e.Rollable, "volume snapshot rollback disabled")
}

func (w *world) only(action string, volumes []string, text string) {
	config, _ := guest.Parse(w.kind, 1, w.content)
	sections := []*guest.Section{config.Main}
	for _, s := range config.Snapshots {
		sections = append(sections, s)
	}
	for _, s := range sections {
		for _, v := range guest.Volumes(w.kind, s) {
			if !slices.Contains(volumes, v.Volume) {
				w.fails[action+" "+v.Volume] = errors.New(text)
			}
		}
	}
}

func (w *world) do(action string) error {
	w.log = append(w.log, action)
	return w.fails[action]
}

func (w *world) Load(_ context.Context, vmid uint32) (*guest.Config, error) {
	c, _ := guest.Parse(w.kind, vmid, w.content)
	return c, nil
}

func (w *world) Edit(ctx context.Context, vmid uint32, change func(*guest.Config) error) error {
	c, err := w.Load(ctx, vmid)
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	w.content = guest.Update(w.content, c)
	return nil
}

func (w *world) Activate(context.Context, []guest.Volume) error { return w.do("activate") }

func (w *world) Snapshot(_ context.Context, v guest.Volume, name string) error {
	return w.volume("snapshot", v, name, w.taken)
}

func (w *world) DeleteSnapshot(_ context.Context, v guest.Volume, name string) error {
	return w.volume("delete", v, name, w.deleted)
}

func (w *world) RollbackPossible(_ context.Context, v guest.Volume, name string) error {
	return w.volume("possible", v, name, map[string]string{})
}

func (w *world) Rollback(_ context.Context, v guest.Volume, name string) error {
	return w.volume("rollback", v, name, w.rolledBack)
}

func (w *world) volume(action string, v guest.Volume, name string, calls map[string]string) error {
	if err := w.do(action + " " + v.Volume); err != nil {
		return err
	}
	calls[v.Volume] = name
	return nil
}

type runner world

func (r *runner) Running(context.Context, uint32) (bool, error) { return r.running, nil }

func (r *runner) Stop(context.Context, uint32) error {
	r.running = (*world)(r).do("stop") != nil
	return nil
}

func (r *runner) CanSnapshot(context.Context, *guest.Config) (bool, error) {
	return (*world)(r).do("feature") == nil, nil
}

func (r *runner) Freeze(context.Context, *guest.Config) error {
	if err := (*world)(r).do("freeze"); err != nil && r.kind == layout.LXC {
		return err
	}
	r.frozen = true
	return nil
}

func (r *runner) Thaw(context.Context, *guest.Config) error {
	r.frozen = false
	return (*world)(r).do("thaw")
}

type memory world

func (m *memory) Save(_ context.Context, _ *guest.Config, snap *guest.Section, _ string) error {
	if err := (*world)(m).do("save"); err != nil {
		return err
	}
	snap.Set("vmstate", "somestorage:state-volume")
	snap.Set("runningmachine", "q35")
	return nil
}

func (m *memory) Begin(context.Context, uint32, *guest.Section) error {
	return (*world)(m).do("savevm-start")
}

func (m *memory) End(context.Context, uint32, *guest.Section) error {
	return (*world)(m).do("savevm-end")
}

func (m *memory) Remove(_ context.Context, _ uint32, volume string) error {
	return (*world)(m).do("remove " + volume)
}

func (m *memory) Resume(_ context.Context, _ uint32, _ string, as Hardware) error {
	m.resumed = as
	return (*world)(m).do("resume")
}
