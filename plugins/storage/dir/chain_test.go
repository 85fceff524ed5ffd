package dir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// A chain is one image of a storage whose states are files.
type chain struct {
	*testing.T
	dir.Plugin
	c *storage.Config
	v storage.Volume
}

func newChain(t *testing.T) *chain {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skip(err)
	}
	p, c := newStorage(t, "snapshot-as-volume-chain=1")
	if err := p.Activate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ch := &chain{T: t, Plugin: p, c: c}
	name, err := p.Alloc(t.Context(), c, storage.Request{VMID: 100, Format: "qcow2", Bytes: 4 << 20})
	ch.must(err)
	ch.volume(name)
	return ch
}

func (c *chain) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *chain) volume(name string) {
	v, err := c.Parse(name)
	c.must(err)
	c.v = v
}

func (c *chain) path(snapshot string) string {
	path, err := c.Path(c.c, c.v, snapshot)
	c.must(err)
	return path
}

func (c *chain) write(content byte) {
	write, _ := ioOf("qcow2")
	write(c.T, c.path(""), content)
}

// expect compares the content of the volume or of a state.
func (c *chain) expect(snapshot string, content byte) {
	c.Helper()
	_, read := ioOf("qcow2")
	if got := read(c.T, c.path(snapshot)); got != content {
		c.Errorf("%s '%s' has content %d; want %d", c.v.Name, snapshot, got, content)
	}
}

func (c *chain) snapshot(name string) { c.must(c.Snapshot(c.Context(), c.c, c.v, name)) }

// files are the names in the guest's directory.
func (c *chain) files() (names []string) {
	entries, err := os.ReadDir(filepath.Dir(c.path("")))
	c.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStatesOfAChainAreFiles(t *testing.T) {
	c := newChain(t)
	for i, name := range []string{"one", "two", "three"} {
		c.write(byte(i + 1))
		c.snapshot(name)
	}
	c.write(4)
	want := []string{"snap-one-vm-100-disk-0.qcow2", "snap-three-vm-100-disk-0.qcow2", "snap-two-vm-100-disk-0.qcow2", "vm-100-disk-0.qcow2"}
	if got := c.files(); !slices.Equal(got, want) {
		t.Errorf("files %q", got)
	}
	all, err := c.List(t.Context(), c.c, storage.Query{Content: storage.Images})
	if err != nil || len(all) != 1 || all[0].Size != 4<<20 || all[0].Parent != "snap-three-vm-100-disk-0.qcow2" {
		t.Errorf("listed %+v, %v", all, err)
	}
	for i, name := range []string{"one", "two", "three", ""} {
		c.expect(name, byte(i+1))
	}
	if err := c.Snapshot(t.Context(), c.c, c.v, "two"); err == nil {
		t.Error("a name was used twice")
	}
	var blocked *storage.BlockedError
	if err := c.RollbackPossible(t.Context(), c.c, c.v, "one"); !errors.As(err, &blocked) || fmt.Sprint(blocked.Blockers) != "[two three]" {
		t.Errorf("rollback to the oldest: %v", err)
	}
	if err := c.Rollback(t.Context(), c.c, c.v, "two"); err == nil {
		t.Error("a newer state was lost")
	}
	c.must(c.Rollback(t.Context(), c.c, c.v, "three"))
	c.expect("", 3)
}

func TestStatesOfAChainGoInAnyOrder(t *testing.T) {
	for _, order := range [][]string{{"one", "three", "two"}, {"two", "three", "one"}} {
		c := newChain(t)
		contents := map[string]byte{"one": 1, "two": 2, "three": 3}
		for _, name := range []string{"one", "two", "three"} {
			c.write(contents[name])
			c.snapshot(name)
		}
		for _, gone := range order {
			c.must(c.DeleteSnapshot(t.Context(), c.c, c.v, gone))
			delete(contents, gone)
			c.expect("", 3)
			for name, content := range contents {
				c.expect(name, content)
			}
		}
		if got := c.files(); !slices.Equal(got, []string{"vm-100-disk-0.qcow2"}) {
			t.Errorf("%v: files %q", order, got)
		}
		if files, err := c.Chain(c.c, c.v); err != nil || len(files) != 1 {
			t.Errorf("%v: chain %q, %v", order, files, err)
		}
		if err := c.DeleteSnapshot(t.Context(), c.c, c.v, "one"); err == nil {
			t.Error("what is gone was removed")
		}
	}
}

func TestAChainOfALinkedCloneKeepsItsBase(t *testing.T) {
	c := newChain(t)
	c.write(7)
	base, err := c.CreateBase(t.Context(), c.c, c.v)
	c.must(err)
	c.volume(base)
	made := c.v
	t.Cleanup(func() { _ = c.Free(context.WithoutCancel(t.Context()), c.c, made) }) // bases are immutable
	clone, err := c.Clone(t.Context(), c.c, c.v, 101, "")
	c.must(err)
	c.volume(clone)
	c.expect("", 7)
	c.snapshot("one")
	c.write(8)
	all, err := c.List(t.Context(), c.c, storage.Query{Content: storage.Images, VMID: 101})
	if err != nil || len(all) != 1 || all[0].Name != clone {
		t.Errorf("listed %+v, %v; want %s", all, err, clone)
	}
	c.must(c.DeleteSnapshot(t.Context(), c.c, c.v, "one"))
	c.expect("", 8)
	c.snapshot("two")
	c.must(c.Rollback(t.Context(), c.c, c.v, "two"))
	c.must(c.Free(t.Context(), c.c, c.v))
	c.volume(base)
	c.must(c.Free(t.Context(), c.c, c.v))
	if left, err := filepath.Glob(filepath.Join(c.c.Value("path"), "images/*/*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestAChainIsWholeAfterACut(t *testing.T) {
	c := newChain(t)
	c.write(1)
	// An agent got as far as the second name, and one after it begins again.
	c.must(os.Link(c.path(""), c.path("one")))
	c.expect("", 1)
	c.snapshot("one")
	c.write(2)
	c.expect("one", 1)
	// Another one was to remove what had not come to be.
	c.must(os.Link(c.path(""), c.path("two")))
	c.must(c.DeleteSnapshot(t.Context(), c.c, c.v, "two"))
	c.expect("", 2)
	// QEMU did not take the new file.
	c.snapshot("three")
	c.must(c.Unchain(t.Context(), c.c, c.v, "three"))
	c.expect("", 2)
	if err := c.Unchain(t.Context(), c.c, c.v, "three"); err == nil {
		t.Error("taken back twice")
	}
	c.expect("one", 1)
}

func TestAVolumeWithStatesKeepsItsName(t *testing.T) {
	c := newChain(t)
	c.snapshot("one")
	if name, err := c.Rename(t.Context(), c.c, c.v, 200, ""); err == nil {
		t.Errorf("renamed to %s", name)
	}
	if name, err := c.CreateBase(t.Context(), c.c, c.v); err == nil {
		t.Errorf("base %s", name)
	}
	c.must(os.WriteFile(c.path("one"), []byte("no image"), 0o600))
	if _, err := c.Chain(c.c, c.v); err == nil {
		t.Error("a chain was read that is broken")
	}
	c.must(c.Free(t.Context(), c.c, c.v))
}
