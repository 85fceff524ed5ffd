package storagetest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/storage"
)

// A Machine is what stands behind a type: what is true there when the type has
// done its work. Names are those of the machine, such as pool/vm-100-disk-0@one.
type Machine interface {
	Has(name string) bool
	Snapshot(name string) error
	Property(name, property string) string
	Write(t *testing.T, path string, content byte)
	Read(t *testing.T, path string) byte
}

// A Step is one operation of a functional case, with what it has to return and
// what must be true afterwards.
type Step struct {
	Call, Volid, Snapname, Feature, Format, Name, Content string

	VMID    uint32
	Size    int64
	SizeKiB int64 `json:"size_kib"`

	Expected    json.RawMessage
	ExpectedKiB int64 `json:"expected_kib"`
	MustFail    bool  `json:"must_fail"`
	Blockers    []string
	Volids      []string // for operations on several volumes, or only these of a listing
	TargetVMID  uint32   `json:"target_vmid"`

	CreateSnapshot string `json:"create_dataset_snapshot"`
	ChangeContent  string `json:"change_content"`
	Exists         string `json:"dataset_exists_afterwards"`
	Gone           string `json:"dataset_gone_afterwards"`
	ContentAfter   string `json:"content_afterwards"`
	LogicalSize    string `json:"logical_volume_size"`
	RefQuota       string
	VolSize        string
}

// A Play carries out steps on a storage.
type Play struct {
	Plugin  storage.Plugin
	Config  *storage.Config
	Machine Machine
	Dataset func(file string) string // the machine's name of a volume

	last    storage.Volume // of the step before
	content byte
}

// Do carries out one step.
func (p *Play) Do(t *testing.T, s Step) {
	t.Helper()
	switch {
	case s.CreateSnapshot != "":
		if err := p.Machine.Snapshot(s.CreateSnapshot); err != nil {
			t.Fatal(err)
		}
		return
	case s.ChangeContent != "":
		p.content = p.read(t) + 1
		p.write(t, p.content)
		return
	}
	if s.Volid != "" {
		v, err := p.parse(s.Volid)
		if err != nil && s.MustFail {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p.last = v
	}
	before := p.content
	got, err := p.call(t, s)
	switch {
	case s.MustFail || len(s.Blockers) > 0:
		var blocked *storage.BlockedError
		if err == nil {
			t.Errorf("%s %s did not fail", s.Call, s.Volid)
		} else if len(s.Blockers) > 0 && (!errors.As(err, &blocked) || !slices.Equal(blocked.Blockers, s.Blockers)) {
			t.Errorf("%s %s: %v; want blockers %q", s.Call, s.Volid, err, s.Blockers)
		}
		return
	case err != nil:
		t.Errorf("%s %s: %v", s.Call, s.Volid, err)
		return
	case s.Expected != nil:
		same(t, s, got)
	}
	p.after(t, s, got, before)
}

func (p *Play) parse(volid string) (storage.Volume, error) {
	id, err := storage.ParseID(volid)
	if err != nil {
		return storage.Volume{}, err
	}
	return p.Plugin.Parse(id.Name)
}

// activate activates or deactivates volumes, each on its own.
func (p *Play) activate(t *testing.T, s Step) error {
	a, ok := p.Plugin.(storage.VolumeActivator)
	if !ok {
		return nil // there is nothing to be done
	}
	do := a.ActivateVolume
	if s.Call == "deactivate_volumes" {
		do = a.DeactivateVolume
	}
	for _, volid := range append(slices.Clone(s.Volids), s.Volid) {
		if volid == "" {
			continue
		}
		v, err := p.parse(volid)
		if err == nil {
			err = do(t.Context(), p.Config, v, s.Snapname)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Play) path(t *testing.T) string {
	t.Helper()
	path, err := p.Plugin.Path(p.Config, p.last, "")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *Play) read(t *testing.T) byte { return p.Machine.Read(t, p.path(t)) }

func (p *Play) write(t *testing.T, content byte) { p.Machine.Write(t, p.path(t), content) }

// after checks what must be true on the machine.
func (p *Play) after(t *testing.T, s Step, got any, before byte) {
	t.Helper()
	if s.Exists != "" && !p.Machine.Has(s.Exists) {
		t.Errorf("%s: %s does not exist", s.Call, s.Exists)
	}
	if s.Gone != "" && p.Machine.Has(s.Gone) {
		t.Errorf("%s: %s is still there", s.Call, s.Gone)
	}
	if s.ContentAfter != "" {
		if content := p.read(t); content != before-1 {
			t.Errorf("%s %s: content %d; want that of before, %d", s.Call, s.Volid, content, before-1)
		}
	}
	made, isName := got.(string)
	if !isName {
		made = s.Volid // changed rather than made
	}
	for property, want := range map[string]string{"size": s.LogicalSize, "refquota": s.RefQuota, "volsize": s.VolSize} {
		if want == "" {
			continue
		}
		v, err := p.parse(made)
		if err != nil {
			t.Fatal(err)
		}
		if have := p.Machine.Property(p.Dataset(v.File), property); have != want {
			t.Errorf("%s: %s of %s is %s; want %s", s.Call, property, made, have, want)
		}
	}
}

// call carries an operation out and returns what it says.
func (p *Play) call(t *testing.T, s Step) (any, error) {
	ctx, v := t.Context(), p.last
	switch s.Call {
	case "activate_storage":
		return nil, p.Plugin.Activate(ctx, p.Config)
	case "deactivate_storage":
		return nil, p.Plugin.Deactivate(ctx, p.Config)
	case "parse_volume_id":
		id, err := storage.ParseID(s.Volid)
		return map[string]any{"storage": id.Storage, "volname": id.Name}, err
	case "parse_volname":
		return describe(v), nil
	case "is_base", "volume_is_base":
		return v.IsBase, nil
	case "path":
		path, err := p.Plugin.Path(p.Config, v, s.Snapname)
		return map[string]any{"path": path, "vmid": v.VMID, "vtype": v.Content}, err
	case "volume_has_feature":
		f, ok := p.Plugin.(storage.Featured)
		return ok && f.Features(p.Config).Has(s.Feature, v, s.Snapname), nil
	case "template_list":
		return p.list(t, storage.Query{Content: s.Content}, nil)
	case "vdisk_list":
		return p.list(t, storage.Query{Content: storage.Images, VMID: s.VMID}, s.Volids)
	case "activate_volumes", "deactivate_volumes":
		return nil, p.activate(t, s)
	case "volume_is_base_and_used":
		all, err := p.Plugin.List(ctx, p.Config, storage.Query{Content: storage.Images})
		return v.IsBase && slices.ContainsFunc(all, func(i storage.Info) bool { return strings.HasPrefix(i.Name, v.File+"/") }), err
	case "vdisk_alloc":
		name, err := p.Plugin.Alloc(ctx, p.Config, storage.Request{VMID: s.VMID, Format: s.Format, Name: s.Name, Bytes: s.SizeKiB << 10})
		return p.Config.ID + ":" + name, err
	case "vdisk_free":
		return nil, p.Plugin.Free(ctx, p.Config, v)
	case "volume_size_info":
		return p.size(t)
	case "volume_resize":
		return p.resize(t, s)
	}
	return p.state(t, s)
}

// state carries out the operations on snapshots and bases. A type without them
// fails.
func (p *Play) state(t *testing.T, s Step) (any, error) {
	ctx, v := t.Context(), p.last
	snapshots, ok1 := p.Plugin.(storage.Snapshotter)
	clones, ok2 := p.Plugin.(storage.Cloner)
	checker, ok3 := p.Plugin.(storage.RollbackChecker)
	renamer, ok4 := p.Plugin.(storage.Renamer)
	switch {
	case s.Call == "volume_rollback_is_possible" && ok3:
		return true, checker.RollbackPossible(ctx, p.Config, v, s.Snapname)
	case s.Call == "volume_rollback_is_possible" && ok1:
		return true, nil
	case s.Call == "volume_snapshot" && ok1:
		return nil, snapshots.Snapshot(ctx, p.Config, v, s.Snapname)
	case s.Call == "volume_snapshot_delete" && ok1:
		return nil, snapshots.DeleteSnapshot(ctx, p.Config, v, s.Snapname)
	case s.Call == "volume_snapshot_rollback" && ok1:
		return nil, snapshots.Rollback(ctx, p.Config, v, s.Snapname)
	case s.Call == "vdisk_clone" && ok2:
		name, err := clones.Clone(ctx, p.Config, v, s.VMID, s.Snapname)
		return p.Config.ID + ":" + name, err
	case (s.Call == "vdisk_create_base" || s.Call == "create_base") && ok2:
		name, err := clones.CreateBase(ctx, p.Config, v)
		return p.Config.ID + ":" + name, err
	case s.Call == "rename_volume" && ok4:
		name, err := renamer.Rename(ctx, p.Config, v, cmp.Or(s.TargetVMID, s.VMID), s.Name)
		return p.Config.ID + ":" + name, err
	}
	known := []string{"volume_rollback_is_possible", "volume_snapshot", "volume_snapshot_delete", "volume_snapshot_rollback",
		"vdisk_clone", "vdisk_create_base", "create_base", "rename_volume"}
	if !slices.Contains(known, s.Call) {
		t.Fatalf("no such operation: %q", s.Call)
	}
	return nil, fmt.Errorf("%s: %w", s.Call, storage.ErrUnsupported)
}

func (p *Play) size(t *testing.T) (int64, error) {
	z, ok := p.Plugin.(storage.Sizer)
	if !ok {
		return 0, storage.ErrUnsupported
	}
	return z.Size(t.Context(), p.Config, p.last)
}

func (p *Play) resize(t *testing.T, s Step) (any, error) {
	r, ok := p.Plugin.(storage.Resizer)
	if !ok {
		return nil, storage.ErrUnsupported
	}
	if err := r.Resize(t.Context(), p.Config, p.last, s.Size); err != nil {
		return nil, err
	}
	bytes, err := p.size(t)
	if want := cmp.Or(s.ExpectedKiB<<10, bytes); bytes != want {
		err = fmt.Errorf("%d bytes; want %d", bytes, want)
	}
	return true, err
}

func describe(v storage.Volume) map[string]any {
	m := map[string]any{"vtype": v.Content, "name": v.File, "vmid": v.VMID, "basename": nil, "basevmid": nil, "is_base": v.IsBase, "format": v.Format}
	if v.Base != "" {
		maps.Copy(m, map[string]any{"basename": v.Base, "basevmid": v.BaseVMID})
	}
	return m
}
