package dir_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// newCatalog is a node with the storages "one" and "two", both of the type dir.
func newCatalog(t *testing.T) (storage.Catalog, string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	text := "dir: one\n\tpath " + root + "/a\n\tcontent images\n\ndir: two\n\tpath " + root + "/b\n\tcontent images\n"
	if err := os.WriteFile(filepath.Join(root, storage.File), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return storage.Catalog{Tree: root, Node: "n1", Run: host.System{}, Locks: filepath.Join(root, "locks"),
		Plugins: map[string]storage.Plugin{"dir": dir.Plugin{Run: host.System{}}}}, root
}

func (s steps) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

type steps struct{ *testing.T }

func TestDiskLivesThroughTheCatalog(t *testing.T) {
	c, root := newCatalog(t)
	s := steps{t}
	write, read := ioOf("qcow2")
	id, err := c.Alloc(t.Context(), "one", storage.Request{VMID: 100, Format: "qcow2", Bytes: 4 << 20})
	s.must("alloc", err)
	b, err := c.Blockdev(id.String(), "")
	s.must("blockdev", err)
	if want := filepath.Join(root, "a/images/100/vm-100-disk-0.qcow2"); b.Path != want || b.Format != "qcow2" ||
		!b.QEMUSnapshots() || !b.QEMUResizes() || b.Device() || b.ImageOpts() != "driver=qcow2,file.driver=file,file.filename="+want {
		t.Errorf("%+v, %s", b, b.ImageOpts())
	}
	write(t, b.Path, 1)
	s.must("snapshot", c.Snapshot(t.Context(), id.String(), "one"))
	write(t, b.Path, 2)

	// A full copy of the snapshot, on another storage and in another format.
	copied, err := c.Copy(t.Context(), storage.Copying{From: id.String(), Snapshot: "one", To: "two", VMID: 101, Format: "raw"})
	s.must("copy", err)
	if copied.String() != "two:101/vm-101-disk-0.raw" {
		t.Errorf("copied to %s", copied)
	}
	_, readRaw := ioOf("raw")
	path, err := c.Path(copied.String())
	s.must("path", err)
	if got := readRaw(t, path); got != 1 {
		t.Errorf("the copy of the snapshot has %d", got)
	}

	s.must("rollback", c.Rollback(t.Context(), id.String(), "one"))
	if got := read(t, b.Path); got != 1 {
		t.Errorf("after rollback %d", got)
	}
	s.must("delete snapshot", c.DeleteSnapshot(t.Context(), id.String(), "one"))
	s.must("resize", c.Resize(t.Context(), id.String(), 8<<20))
	if bytes, err := c.Size(t.Context(), id.String()); err != nil || bytes != 8<<20 {
		t.Errorf("size %d, %v", bytes, err)
	}
	id, err = c.Rename(t.Context(), id.String(), 102, "")
	s.must("rename", err)
	base, err := c.CreateBase(t.Context(), id.String())
	s.must("base", err)
	clone, err := c.Clone(t.Context(), base.String(), 103, "")
	s.must("clone", err)
	if clone.String() != "one:102/base-102-disk-0.qcow2/103/vm-103-disk-0.qcow2" {
		t.Errorf("clone %s", clone)
	}
	if err := c.Free(t.Context(), base.String()); err == nil {
		t.Error("a base was freed that a clone stands on")
	}
	for _, id := range []storage.ID{clone, base, copied} {
		s.must("free", c.Free(t.Context(), id.String()))
	}
}

func TestFailedCopyLeavesNothing(t *testing.T) {
	c, root := newCatalog(t)
	broken := filepath.Join(root, "broken.qcow2")
	place(t, broken, false, "qcow2")
	text, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	copy(text[40:48], "garbage!") // where the first table is
	if err := os.WriteFile(broken, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := c.Copy(t.Context(), storage.Copying{From: broken, To: "one", VMID: 100}); err == nil {
		t.Errorf("copied to %s", id)
	}
	if all, err := c.List(t.Context(), "one", "", 0); err != nil || len(all) > 0 {
		t.Errorf("left over: %v, %v", all, err)
	}
}

func TestAbilitiesAreToldApart(t *testing.T) {
	c, _ := newCatalog(t)
	for ability, want := range map[string]bool{"snapshot": false, "template": true, "copy": true, "clone": false, "nonsense": false} {
		if can, err := c.Can(ability, "one:100/vm-100-disk-0.raw", ""); err != nil || can != want {
			t.Errorf("%s: %v, %v", ability, can, err)
		}
	}
	id, err := c.Alloc(t.Context(), "one", storage.Request{VMID: 100, Format: "raw", Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Clone(t.Context(), id.String(), 101, ""); !errors.Is(err, storage.ErrUnsupported) {
		t.Errorf("clone: %v", err)
	}
}
