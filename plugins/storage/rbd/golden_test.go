package rbd_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/storage"
	"etcpve/fixtures/golden"
	"etcpve/plugins/storage/rbd"
)

// A definition is a storage in the setup.
type definition struct {
	ID, Type, Pool, Namespace string
	KRBD                      bool
	Content                   []string
}

func (d definition) section(krbd string) string {
	text := d.Type + ": " + d.ID + "\n\tpool " + d.Pool + "\n\tcontent " + strings.Join(d.Content, ",") + "\n"
	if d.Namespace != "" {
		text += "\tnamespace " + d.Namespace + "\n"
	}
	return text + "\tkrbd " + krbd + "\n\n"
}

// A cluster carries out what the commands of a scenario ask of the storages:
// guests are their disks here.
type cluster struct {
	storage.Catalog
	machine *machine
	setup   struct {
		Storage         definition
		PoolStorage     definition `json:"pool_storage"`
		Guest           map[string]any
		CloneVMID       uint32 `json:"clone_vmid"`
		LinkedCloneVMID uint32 `json:"linked_clone_vmid"`
	}
	guests   map[string]map[string]string // disks by key, by VMID
	template map[string]bool
}

func (c *cluster) define(krbd string) error {
	text := c.setup.Storage.section(krbd) + c.setup.PoolStorage.section("0")
	return os.WriteFile(filepath.Join(c.Tree, storage.File), []byte(text), 0o640)
}

// run carries out one command.
func (c *cluster) run(t *testing.T, argv []string) error {
	words := append(argv, "", "", "")
	disks := c.guests[words[2]]
	each := func(f func(key, id string) error) error {
		for _, key := range slices.Sorted(maps.Keys(disks)) {
			if err := f(key, disks[key]); err != nil {
				return err
			}
		}
		return nil
	}
	switch words[0] + " " + words[1] {
	case "pvesm set":
		return c.define(argv[len(argv)-1])
	case "qm start":
		return each(func(_, id string) error { return c.start(t, id) })
	case "qm stop":
		return each(func(_, id string) error { return c.DeactivateVolumes(t.Context(), "", id) })
	case "qm unlock":
		return nil // nothing is locked here
	case "qm snapshot":
		return each(func(_, id string) error { return c.Snapshot(t.Context(), id, words[3]) })
	case "qm rollback":
		return each(func(_, id string) error { return c.Rollback(t.Context(), id, words[3]) })
	case "qm delsnapshot":
		return each(func(_, id string) error { return c.DeleteSnapshot(t.Context(), id, words[3]) })
	case "qm move_disk":
		return c.move(t, words[2], words[3], words[4])
	case "qm template":
		c.template[words[2]] = true
		return each(func(key, id string) error {
			base, err := c.CreateBase(t.Context(), id)
			disks[key] = base.String()
			return err
		})
	case "qm clone":
		return c.clone(t, words[2], words[3])
	}
	return fmt.Errorf("no such command %q", argv)
}

// start makes a disk usable, and sees that it is where QEMU will look for it.
func (c *cluster) start(t *testing.T, id string) error {
	if err := c.ActivateVolumes(t.Context(), "", id); err != nil {
		return err
	}
	at, err := c.Locate(id)
	if err != nil {
		return err
	}
	b, err := c.Blockdev(id, "")
	name := at.Config.Value("pool") + "/" + strings.TrimPrefix(at.Config.Value("namespace")+"/", "/") + at.Volume.File
	mapped := slices.Contains(c.machine.mapped, name)
	if err == nil && (b.Device() != at.Config.Bool("krbd") || mapped != b.Device()) {
		err = fmt.Errorf("%s: %+v, mapped %v", name, b, mapped)
	}
	return err
}

func (c *cluster) move(t *testing.T, vmid, key, to string) error {
	old := c.guests[vmid][key]
	moved, err := c.Copy(t.Context(), storage.Copying{From: old, To: to, VMID: number(vmid)})
	if err != nil {
		return err
	}
	c.guests[vmid][key] = moved.String()
	return c.Free(t.Context(), old)
}

// clone copies the disks of a guest, or makes disks that stand on those of a
// template.
func (c *cluster) clone(t *testing.T, vmid, to string) error {
	c.guests[to] = map[string]string{}
	for key, id := range c.guests[vmid] {
		var made storage.ID
		var err error
		if c.template[vmid] {
			made, err = c.Clone(t.Context(), id, number(to), "")
		} else {
			at, e := c.Locate(id)
			if e != nil {
				return e
			}
			if err = c.ActivateVolumes(t.Context(), "", id); err == nil {
				made, err = c.Copy(t.Context(), storage.Copying{From: id, To: at.ID.Storage, VMID: number(to)})
			}
		}
		if err != nil {
			return err
		}
		c.guests[to][key] = made.String()
	}
	return nil
}

func number(text string) (n uint32) {
	_, _ = fmt.Sscan(text, &n) // 0 for what is none
	return n
}

// newCluster makes the disks of the setup.
func newCluster(t *testing.T, dir string) *cluster {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "setup.json"))
	if os.IsNotExist(err) {
		t.Skipf("golden data not on this machine: %v", err)
	}
	m := &machine{}
	tree := t.TempDir()
	c := &cluster{machine: m, guests: map[string]map[string]string{}, template: map[string]bool{}, Catalog: storage.Catalog{
		Tree: tree, Node: "n1", Run: m, Plugins: map[string]storage.Plugin{"rbd": rbd.New(m, tree)}}}
	if err == nil {
		err = json.Unmarshal(text, &c.setup)
	}
	if err == nil {
		m.pools = []string{c.setup.PoolStorage.Pool}
		err = c.define("0")
	}
	if err != nil {
		t.Fatal(err)
	}
	vmid := fmt.Sprint(c.setup.Guest["vmid"])
	if f, ok := c.setup.Guest["vmid"].(float64); ok {
		vmid = fmt.Sprintf("%.0f", f)
	}
	c.guests[vmid] = map[string]string{}
	for key, value := range c.setup.Guest {
		// STORAGE:GIB, as "qm create" takes it.
		id, size, ok := strings.Cut(fmt.Sprint(value), ":")
		if !ok {
			continue
		}
		made, err := c.Alloc(t.Context(), id, storage.Request{VMID: number(vmid), Bytes: int64(number(size)) << 30})
		if err != nil {
			t.Fatal(err)
		}
		c.guests[vmid][key] = made.String()
	}
	return c
}

// TestGoldenNamespace plays the scenario as one case: its sections depend on
// each other. Ceph is simulated, and of the guests there are the disks only.
func TestGoldenNamespace(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "storage"), "rbd_namespace")
	text, err := os.ReadFile(filepath.Join(dir, "scenario.json"))
	if err != nil {
		t.Skipf("golden data not on this machine: %v", err)
	}
	var sections []struct {
		Section                      string
		Preparations, Steps, Cleanup [][]string
	}
	if err := json.Unmarshal(text, &sections); err != nil {
		t.Fatal(err)
	}
	golden.Case(t, "storage", "rbd_namespace", func(t *testing.T) {
		c := newCluster(t, dir)
		for _, s := range sections {
			for _, argv := range slices.Concat(s.Preparations, s.Steps, s.Cleanup) {
				if err := c.run(t, argv); err != nil {
					t.Fatalf("%s: %s: %v", s.Section, strings.Join(argv, " "), err)
				}
			}
		}
	})
}
