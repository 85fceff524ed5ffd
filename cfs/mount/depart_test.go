package mount

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatComesWhereAFileDeparted: a file that took a temporary name is gone for
// whoever uses its place for something else, though the cluster still has it.
func TestWhatComesWhereAFileDeparted(t *testing.T) {
	r := newRig(t)
	r.mkdirs("d", "e", "empty", "empty/er")
	depart := func(path string) {
		t.Helper()
		r.write(path, "content")
		if err := os.Rename(r.path(path), r.path("kept~")); err != nil {
			t.Fatal(err)
		}
	}
	for what, do := range map[string]func() error{
		"a directory":    func() error { depart("a"); return os.Mkdir(r.path("a"), 0o755) },
		"a node":         func() error { depart("b"); return unix.Mknod(r.path("b"), unix.S_IFREG|0o640, 0) },
		"a moved dir":    func() error { depart("c"); return os.Rename(r.path("empty/er"), r.path("c")) },
		"its dir's end":  func() error { depart("d/a"); return os.Remove(r.path("d")) },
		"its dir's move": func() error { depart("e/a"); return os.Rename(r.path("e"), r.path("f")) },
		"an exclusive rename": func() error {
			depart("g")
			r.write("h", "new")
			return unix.Renameat2(unix.AT_FDCWD, r.path("h"), unix.AT_FDCWD, r.path("g"), unix.RENAME_NOREPLACE)
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for path, dir := range map[string]bool{"a": true, "b": false, "c": true, "f": true, "g": false} {
		if e, ok := r.tree.Lookup(path); !ok || e.Dir != dir {
			t.Errorf("%s: %+v, %v", path, e, ok)
		}
	}
	if _, ok := r.tree.Lookup("f/a"); ok {
		t.Error("the departed file moved with its directory")
	}
}

// TestABackupHoldsTheOldContent: the name that a file departed to never shows what
// its old name has got since.
func TestABackupHoldsTheOldContent(t *testing.T) {
	r := newRig(t)
	for i := range 200 {
		before, after := fmt.Sprint("before ", i), fmt.Sprint("after, and longer ", i)
		r.write("a", before)
		if err := os.Rename(r.path("a"), r.path("a~")); err != nil {
			t.Fatal(err)
		}
		r.write("a", after)
		if st, err := os.Stat(r.path("a~")); err != nil || st.Size() != int64(len(before)) {
			t.Fatalf("round %d: a~ is %v, %v", i, st, err)
		}
		r.holds("a~", before)
		r.holds("a", after)
	}
}
