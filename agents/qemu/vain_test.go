package qemu

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestAVolumeOfNoStorageIsAProblem adds a disk of a storage that exists and one of
// a storage that does not.
func TestAVolumeOfNoStorageIsAProblem(t *testing.T) {
	tree := t.TempDir()
	file := filepath.Join(tree, "nodes/n1/qemu-server/100.conf")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("memory: 512\nname: nost:1\nscsi1: local:1\nscsi2: file=nost:1,ssd=1\nscsi3: nost:100/vm-100-disk-0.raw\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Tree: tree, Node: "n1", RunDir: t.TempDir(), Locks: t.TempDir(), BootID: "b", Log: slog.New(slog.DiscardHandler),
		Storage: func(id string) error {
			if id == "local" {
				return nil
			}
			return fmt.Errorf("storage '%s' does not exist", id)
		}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.Desired(t.Context(), "100")
	want := "nodes/n1/qemu-server/100.conf:4: scsi2: storage 'nost' does not exist"
	if err != nil || !slices.Contains(d.Problems, want) || len(d.Problems) != len(readProblems(d))+1 {
		t.Errorf("%v, %q; want %q", err, d.Problems, want)
	}
}

// readProblems are those that the text alone has.
func readProblems(d Desired) []string {
	_, _, problems := readConfig(d.VMID, string(d.Text))
	return problems
}
