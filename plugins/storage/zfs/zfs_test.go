package zfs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/zfs"
	"etcpve/plugins/storage/zfspool/zfspooltest"
)

const targetName = "iqn.2026-01.example:tank"

func config(settings ...string) *storage.Config {
	c := &storage.Config{ID: "far", Type: "zfs", Values: map[string]string{
		"pool": "tank/vms", "portal": "127.0.0.1", "target": targetName, "iscsiprovider": "LIO", "blocksize": "16k", "sparse": "1"}}
	for i := 0; i < len(settings); i += 2 {
		c.Values[settings[i]] = settings[i+1]
	}
	return c
}

// A far machine is a server with a pool and a target, reached by SSH.
type far struct {
	*zfspooltest.Machine
	stores []string          // backstores
	luns   map[string]string // backstore by LUN
	next   int
}

// words takes a line apart as a shell does.
func words(line string) (all []string) {
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(line, "'"), "'"), "' '") {
		all = append(all, strings.ReplaceAll(part, `'\''`, "'"))
	}
	return all
}

func (f *far) Run(ctx context.Context, c host.Command) ([]byte, error) {
	if got := strings.Join(c.Argv[:7], " "); len(c.Argv) != 8 || !strings.HasPrefix(got, "ssh -o BatchMode=yes -i ") || !strings.HasSuffix(got, "/priv/zfs/127.0.0.1_id_rsa root@127.0.0.1 --") {
		return nil, fmt.Errorf("not to be run here: %q", c.Argv)
	}
	c.Argv = words(c.Argv[7])
	switch c.Argv[0] {
	case "targetcli":
		return nil, f.targetcli(c.Argv[1:])
	case "cat":
		if c.Argv[1] != "/etc/target/saveconfig.json" {
			return nil, fmt.Errorf("no such file %s", c.Argv[1])
		}
		return f.saved()
	}
	return f.Machine.Run(ctx, c)
}

func (f *far) targetcli(argv []string) error {
	line := strings.Join(argv, " ")
	var store, dev string
	switch {
	case line == "saveconfig", strings.HasSuffix(line, " set attribute emulate_tpu=1"):
		return nil
	case scan(line, "/backstores/block create name=%s dev=/dev/tank/vms/%s", &store, &dev):
		if f.Sets["tank/vms/"+dev] == nil || store != "tank-vms-"+dev || slices.Contains(f.stores, store) {
			return fmt.Errorf("cannot create %s on %s", store, dev)
		}
		f.stores = append(f.stores, store)
	case scan(line, "/iscsi/"+targetName+"/tpg1/luns create /backstores/block/%s", &store):
		f.luns[fmt.Sprint(f.next)] = store
		f.next++
	case scan(line, "/backstores/block delete %s", &store):
		if !slices.Contains(f.stores, store) {
			return fmt.Errorf("no backstore %s", store)
		}
		f.stores = slices.DeleteFunc(f.stores, func(s string) bool { return s == store })
		for lun, s := range f.luns {
			if s == store {
				delete(f.luns, lun)
			}
		}
	default:
		return fmt.Errorf("targetcli does not know %q", argv)
	}
	return nil
}

func scan(line, form string, into ...any) bool {
	n, err := fmt.Sscanf(line, form, into...)
	return err == nil && n == len(into)
}

func (f *far) saved() ([]byte, error) {
	luns := []any{}
	for lun, store := range f.luns {
		luns = append(luns, map[string]any{"index": json.Number(lun), "storage_object": "/backstores/block/" + store})
	}
	return json.Marshal(map[string]any{"targets": []any{map[string]any{"wwn": targetName, "tpgs": []any{map[string]any{"tag": 1, "luns": luns}}}}})
}

// device is what QEMU would find at an address.
func (f *far) device(t *testing.T, path string) string {
	t.Helper()
	lun, ours := strings.CutPrefix(path, "iscsi://127.0.0.1:3260/"+targetName+"/")
	file, known := strings.CutPrefix(f.luns[lun], "tank-vms-")
	if !ours || !known {
		t.Fatalf("nothing at %s, LUNs %v", path, f.luns)
	}
	return "/dev/zvol/tank/vms/" + file
}

// TestVolumesAreLUNs takes a volume from its beginning to its end.
func TestVolumesAreLUNs(t *testing.T) {
	f := &far{Machine: zfspooltest.New("tank/vms"), luns: map[string]string{}}
	p, c := zfs.New(f, "/etc/pve", t.TempDir()), config()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name, err := p.Alloc(ctx, c, storage.Request{VMID: 100, Bytes: 4 << 20})
	must(err)
	v, err := p.Parse(name)
	must(err)
	if path, err := p.Path(c, v, ""); err == nil {
		t.Errorf("a volume that is not active is at %s", path)
	}
	at := func() string {
		t.Helper()
		must(p.ActivateVolume(ctx, c, v, ""))
		path, err := p.Path(c, v, "")
		must(err)
		return f.device(t, path)
	}
	f.Write(t, at(), 1)
	must(p.Snapshot(ctx, c, v, "one"))
	f.Write(t, at(), 2)
	must(p.Rollback(ctx, c, v, "one"))
	if got := f.Read(t, at()); got != 1 {
		t.Errorf("content %d after the rollback", got)
	}
	must(p.Resize(ctx, c, v, 8<<20))
	if size, err := p.Size(ctx, c, v); err != nil || size != 8<<20 {
		t.Errorf("size %d, %v", size, err)
	}
	node, err := p.Blockdev(c, v, "")
	if err != nil || node["driver"] != "iscsi" || node["target"] != targetName || fmt.Sprint(node["lun"]) != "1" {
		t.Errorf("QEMU opens %v, %v", node, err)
	}
	must(p.DeleteSnapshot(ctx, c, v, "one"))
	name, err = p.CreateBase(ctx, c, v)
	must(err)
	v, err = p.Parse(name)
	must(err)
	clone, err := p.Clone(ctx, c, v, 101, "")
	must(err)
	if err := p.Free(ctx, c, v); err == nil || len(f.luns) != 2 {
		t.Errorf("a base that is used was freed: %v, LUNs %v", err, f.luns)
	}
	all, err := p.List(ctx, c, storage.Query{Content: storage.Images})
	if err != nil || len(all) != 2 || all[1].Name != clone {
		t.Errorf("listed %+v, %v", all, err)
	}
	base := v
	v, err = p.Parse(clone)
	must(err)
	at()
	must(p.DeactivateVolume(ctx, c, v, ""))
	must(p.Free(ctx, c, v))
	must(p.Free(ctx, c, base))
	if len(f.luns)+len(f.stores) > 0 {
		t.Errorf("left: %v %v", f.luns, f.stores)
	}
}

// TestWhatHasNoLUNIsRemoved lets the target refuse.
func TestWhatHasNoLUNIsRemoved(t *testing.T) {
	f := &far{Machine: zfspooltest.New("tank/vms"), luns: map[string]string{}, stores: []string{"tank-vms-vm-100-disk-0"}}
	p, c := zfs.New(f, "/etc/pve", t.TempDir()), config()
	if name, err := p.Alloc(t.Context(), c, storage.Request{VMID: 100, Bytes: 4 << 20}); err == nil || f.Has("tank/vms/vm-100-disk-0") {
		t.Errorf("%s, %v", name, err)
	}
	if _, err := p.Alloc(t.Context(), config("iscsiprovider", "iet"), storage.Request{VMID: 100, Bytes: 4 << 20}); err == nil || !strings.Contains(err.Error(), "only LIO") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"subvol-100-disk-0", "../x", "disk-1", ""} {
		if v, err := p.Parse(name); err == nil {
			t.Errorf("%q is %+v", name, v)
		}
	}
}

// A record keeps the last command.
type record []string

func (r *record) Run(_ context.Context, c host.Command) ([]byte, error) {
	*r = c.Argv
	return []byte("30\n12\n"), nil
}

// TestWordsAreQuoted gives a value that means something to a shell to one.
func TestWordsAreQuoted(t *testing.T) {
	tree, pool, said := t.TempDir(), "a'; echo $(id) \"*", record{}
	s, err := zfs.New(&said, tree, "").Status(t.Context(), config("portal", "192.0.2.7:3261", "pool", pool))
	if err != nil || s.Total != 42 {
		t.Fatalf("%+v, %v", s, err)
	}
	key := filepath.Join(tree, "priv/zfs/192.0.2.7_id_rsa")
	if got := said[:7]; !slices.Equal(got, []string{"ssh", "-o", "BatchMode=yes", "-i", key, "root@192.0.2.7", "--"}) {
		t.Errorf("%q", got)
	}
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+said[7]).Output()
	want := "zfs\nget\n-Hp\n-o\nvalue\navailable,used\n" + pool + "\n"
	if err != nil || string(out) != want {
		t.Errorf("the server's shell sees %q, %v; want %q", out, err, want)
	}
}
