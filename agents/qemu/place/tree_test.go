package place

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTree is a tree of two nodes with a VM and a container.
func newTree(t *testing.T) Place {
	t.Helper()
	p := Place{Tree: t.TempDir(), Node: "n1"}
	for _, dir := range []string{"n1/qemu-server", "n2/qemu-server", "n2/lxc"} {
		must(t, os.MkdirAll(filepath.Join(p.Tree, "nodes", dir), 0o755))
	}
	p.write(t, "nodes/n1/qemu-server/100.conf", "scsi0: a")
	p.write(t, "nodes/n2/lxc/101.conf", "rootfs: b")
	return p
}

func (p Place) write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(p.Tree, path), []byte(text), 0o644))
}

func TestConfigurationsAreOfOneMoment(t *testing.T) {
	p := newTree(t)
	want := []string{"nodes/n1/qemu-server/100.conf", "nodes/n2/lxc/101.conf"}
	if got, err := p.Configurations(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	// The file system's own list counts where it has one.
	p.write(t, ".vmlist", `{"version": 3, "ids": {"100": {"node": "n2", "type": "qemu", "version": 1}, "101": {"node": "n2", "type": "lxc", "version": 2}}}`)
	want[0] = "nodes/n2/qemu-server/100.conf"
	slices.Sort(want)
	if got, err := p.Configurations(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	p.write(t, ".vmlist", "{\n\"version\": 4\n}\n")
	if got, err := p.Configurations(t.Context()); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGuestThatMovesIsNotMissed moves a guest while others are looked at.
func TestGuestThatMovesIsNotMissed(t *testing.T) {
	p := newTree(t)
	p.write(t, "nodes/n1/qemu-server/050.conf", "not a guest")
	p.write(t, "nodes/n1/qemu-server/99.conf", "scsi0: c")
	moved := false
	found, err := p.AnyConfiguration(t.Context(), func(path, content string) bool {
		if !moved { // behind the one that is looked at, which comes later in the list
			moved = true
			must(t, os.Rename(filepath.Join(p.Tree, "nodes/n2/lxc/101.conf"), filepath.Join(p.Tree, "nodes/n2/lxc/105.conf")))
			must(t, os.Rename(filepath.Join(p.Tree, "nodes/n1/qemu-server/99.conf"), filepath.Join(p.Tree, "nodes/n2/qemu-server/99.conf")))
		}
		return content == "scsi0: c"
	})
	if err != nil || !found {
		t.Errorf("found: %v, %v", found, err)
	}
	if found, err := p.AnyConfiguration(t.Context(), func(_, content string) bool { return content == "not a guest" }); err != nil || found {
		t.Errorf("found: %v, %v", found, err)
	}
}
