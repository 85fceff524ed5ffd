package mount

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"

	"golang.org/x/sys/unix"
)

func (r *rig) statfs() (s unix.Statfs_t) {
	r.t.Helper()
	if err := unix.Statfs(r.dir, &s); err != nil {
		r.t.Error(err)
	}
	return s
}

func TestLimitOfContent(t *testing.T) {
	r := newRig(t)
	r.write("big", strings.Repeat("x", layout.MaxFile))
	if err := os.WriteFile(r.path("big"), make([]byte, layout.MaxFile+1), 0); !isErrno(err, syscall.EFBIG) {
		t.Errorf("a file beyond the limit: %v", err)
	}
	r.holds("big", strings.Repeat("x", layout.MaxFile))
	if s := r.statfs(); s.Bfree != s.Blocks-layout.MaxFile/layout.BlockSize || s.Bavail != s.Bfree {
		t.Errorf("statfs after 1 MiB: %d of %d blocks are free", s.Bfree, s.Blocks)
	}
	r.write("old", "old")
	var full error
	for i := 0; full == nil && i < 40; i++ {
		full = os.WriteFile(r.path(fmt.Sprintf("f%d", i)), make([]byte, layout.MaxFile), 0o640)
	}
	if !isErrno(full, syscall.ENOSPC) {
		t.Errorf("a full tree: %v", full)
	}
	used, _ := r.tree.Usage()
	rest := layout.MaxTotal - used
	r.write("rest", strings.Repeat("r", rest))
	if s := r.statfs(); s.Blocks != layout.MaxTotal/layout.BlockSize || s.Bfree != 0 || s.Bavail != 0 {
		t.Errorf("statfs of a full tree: %+v", s)
	}
	for what, save := range map[string]func() error{
		"a file that grows": func() error { return os.WriteFile(r.path("old"), []byte("newer"), 0) },
		"an appended byte":  func() error { return r.appendTo("old", "x") },
		"a new file":        func() error { return os.WriteFile(r.path("new"), []byte("x"), 0o640) },
		"a longer file":     func() error { return os.Truncate(r.path("old"), 100) },
		"a temporary that takes a name": func() error {
			os.WriteFile(r.path("old.tmp.1"), []byte("newer"), 0o640)
			return os.Rename(r.path("old.tmp.1"), r.path("old"))
		},
	} {
		if err := save(); !isErrno(err, syscall.ENOSPC) {
			t.Errorf("%s in a full tree: %v", what, err)
		}
		r.holds("old", "old")
	}
	if _, err := os.Stat(r.path("new")); !os.IsNotExist(err) {
		t.Errorf("the file that was refused: %v", err)
	}
	r.write("old", "red") // what does not grow fits
	if err := os.Truncate(r.path("big"), 1); err != nil {
		t.Errorf("a full tree does not shrink: %v", err)
	}
	r.write("small", "fits")
}

func (r *rig) appendTo(name, data string) error {
	f, err := os.OpenFile(r.path(name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// fill makes files in the tree, not through the mount, until it has no more than
// so many inodes left.
func (r *rig) fill(left int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.tree.Begin()
	_, have := r.tree.Usage()
	for i := range layout.MaxInodes - left - have {
		r.index++
		c := &command.Command{ID: r.index, Op: command.Write, Time: 1, Path: fmt.Sprintf("nodes/n1/f%d", i)}
		if res, _ := x.Apply(r.index, c); res.Err != nil {
			r.t.Fatal(res.Err)
		}
	}
	x.Publish()
}

func TestLimitOfInodes(t *testing.T) {
	r := newRig(t)
	r.write("old", "old")
	r.fill(2)
	if s := r.statfs(); s.Files != layout.MaxInodes || s.Ffree != 2 {
		t.Errorf("statfs with two inodes left: %d of %d are free", s.Ffree, s.Files)
	}
	r.mkdirs("d")
	r.write("d/last", "1")
	if s := r.statfs(); s.Ffree != 0 {
		t.Errorf("statfs of a full tree: %d inodes are free", s.Ffree)
	}
	for what, more := range map[string]func() error{
		"a file":      func() error { return os.WriteFile(r.path("d/f"), []byte("x"), 0o640) },
		"a directory": func() error { return os.Mkdir(r.path("d/f"), 0o755) },
		"a node":      func() error { return unix.Mknod(r.path("d/f"), unix.S_IFREG|0o640, 0) },
		"a file that must not exist": func() error {
			f, err := os.OpenFile(r.path("d/f"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
			if err == nil {
				f.Close()
			}
			return err
		},
		"a temporary that takes a name": func() error {
			os.WriteFile(r.path("d/f.tmp.1"), []byte("x"), 0o640)
			return os.Rename(r.path("d/f.tmp.1"), r.path("d/f"))
		},
	} {
		if err := more(); !isErrno(err, syscall.ENOSPC) {
			t.Errorf("%s in a full tree: %v", what, err)
		}
		if _, err := os.Stat(r.path("d/f")); !os.IsNotExist(err) {
			t.Errorf("%s that was refused: %v", what, err)
		}
	}
	r.write("old", "new") // what is there can be changed, moved and replaced
	if err := os.Rename(r.path("old"), r.path("d/last")); err != nil {
		t.Error(err)
	}
	r.holds("d/last", "new")
	r.write("f", "fits again")
	if s := r.statfs(); s.Ffree != 0 {
		t.Errorf("statfs of a tree that is full again: %d inodes are free", s.Ffree)
	}
	if err := os.Remove(r.path("f")); err != nil {
		t.Error(err)
	}
	if s := r.statfs(); s.Ffree != 1 {
		t.Errorf("statfs after a removal: %d inodes are free", s.Ffree)
	}
}
