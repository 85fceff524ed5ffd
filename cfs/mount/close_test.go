package mount

import (
	"etcpve/cfs/mount/review"

	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAPanicIsAReasonToEnd: a request that panics is answered, says so, and what
// it has left locked keeps nothing from ending.
func TestAPanicIsAReasonToEnd(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	// The bell is this process until it is executed: it has a copy of what is open
	// here, and closing that is a save too, which would be the first to panic.
	eventually(t, "the bell", r.m.queue.bell.IsRunning)
	r.m.cfg.Check = func(string) review.Checker { panic("on purpose") }
	inTime(t, "a save that panics", patience, func() {
		if err := os.WriteFile(r.path("a"), []byte("2"), 0o640); !isErrno(err, syscall.EIO) {
			t.Errorf("a save that panics: %v; want EIO", err)
		}
	})
	select {
	case err := <-r.m.Failed():
		if !strings.Contains(err.Error(), "on purpose") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("nobody is told")
	}
	r.holds("a", "1")
	inTime(t, "the end after a panic", patience, func() { r.m.Close() })
	if err := os.WriteFile(r.path("a"), nil, 0o640); err != nil {
		t.Errorf("the directory below: %v", err)
	}
}

// TestSavesUnderWayAreLetThrough: closing is no reason for a save to fail that
// has been handed on, and none is taken after that.
func TestSavesUnderWayAreLetThrough(t *testing.T) {
	r := newRig(t)
	r.hold = make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		wg.Go(func() { errs[i] = os.Mkdir(r.path("m"+string(rune('0'+i))), 0o755) })
	}
	// The kernel lets one in at a time: they are in one directory.
	eventually(t, "a save under way", func() bool { return r.waiting.Load() > 0 })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		r.m.Close()
	}()
	eventually(t, "no more saves", func() bool {
		if r.m.saves.TryRLock() {
			r.m.saves.RUnlock()
			return false
		}
		return true
	})
	close(r.hold)
	inTime(t, "the end", patience, func() { <-closed; wg.Wait() })
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !isErrno(err, unix.ENOTCONN) && !isErrno(err, unix.ECONNABORTED) && !isErrno(err, unix.EINTR) {
			t.Errorf("a save that came too late: %v", err)
		}
	}
	if got := len(r.tree.List(0)) - 3; got != made {
		t.Errorf("%d directories are there, and %d programs know it", got, made)
	}
}

// TestAForeignMountIsLeftAlone closes a mount above which something is mounted.
func TestAForeignMountIsLeftAlone(t *testing.T) {
	r := newRig(t)
	if err := unix.Mount("above", r.dir, "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	if on, top := r.m.place.IsMounted(); !on || top {
		t.Errorf("below another mount: on %v, top %v", on, top)
	}
	r.m.place.Detach()
	var s unix.Statfs_t
	if err := unix.Statfs(r.dir, &s); err != nil || s.Type != unix.TMPFS_MAGIC {
		t.Errorf("the foreign mount: %v, %x", err, s.Type)
	}
	if err := unix.Unmount(r.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if on, top := r.m.place.IsMounted(); !on || !top {
		t.Errorf("alone again: on %v, top %v", on, top)
	}
}

// TestUnmountedWhileInUseIsNoticed: nobody can see the file system any more.
func TestUnmountedWhileInUseIsNoticed(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	f, err := os.Open(r.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(r.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.m.Done():
	case <-time.After(patience):
		t.Error("not noticed")
	}
}
