package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An ending is a way in which a daemon comes to its end.
type ending struct {
	name   string
	bring  func(n *node) error
	killed bool // it cannot take its mount away
	fails  bool // it says that it failed
}

func endings() []ending {
	signal := func(s syscall.Signal) func(n *node) error {
		return func(n *node) error { return n.cmd.Process.Signal(s) }
	}
	run := func(name string, args ...string) func(n *node) error {
		return func(n *node) error {
			out, err := exec.Command(name, append(args, n.dir)...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		}
	}
	return []ending{
		{name: "SIGTERM", bring: signal(syscall.SIGTERM)},
		{name: "SIGINT", bring: signal(syscall.SIGINT)},
		{name: "SIGKILL", bring: signal(syscall.SIGKILL), killed: true, fails: true},
		{name: "SIGQUIT", bring: signal(syscall.SIGQUIT), killed: true, fails: true}, // as a panic that nobody recovers
		{name: "fusermount3 -u -z", bring: run("fusermount3", "-u", "-z")},
		{name: "umount -l", bring: run("umount", "-l")},
		{name: "umount -f -l", bring: run("umount", "-f", "-l")},
		{name: "SQLite", bring: refuseWrites, fails: true},
	}
}

// refuseWrites makes every write of the daemon to a file fail.
func refuseWrites(n *node) error {
	return unix.Prlimit(n.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 512, Max: unix.RLIM_INFINITY}, nil)
}

// TestEveryEndIsAnEnd ends daemons on which programs write, rename, lock and
// list: the daemon must be gone, the programs must get an answer, and a new
// daemon must find what was saved.
func TestEveryEndIsAnEnd(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for _, e := range endings() {
		t.Run(e.name, func(t *testing.T) {
			n := newNode(t)
			for round := range rounds {
				n.start()
				n.endUnderLoad(e, time.Duration(100+70*round)*time.Millisecond)
			}
		})
	}
}

func (n *node) endUnderLoad(e ending, after time.Duration) {
	n.t.Helper()
	os.Mkdir(n.path("busy"), 0o755)
	held, err := os.Create(n.path("busy/held")) // it is in use when it goes
	if err != nil {
		n.t.Fatal(err)
	}
	defer held.Close()
	l := n.load()
	time.Sleep(after) // the moment is the scenario
	if err := e.bring(n); err != nil {
		n.t.Fatal(err)
	}
	if err := n.end(); (err != nil) != e.fails {
		n.t.Errorf("%s: ended with %v\n%s", e.name, err, n.log.String())
	}
	l.stop.Store(true)
	select {
	case <-l.ended():
	case <-time.After(patience):
		unix.Unmount(n.dir, unix.MNT_FORCE|unix.MNT_DETACH)
		n.t.Fatalf("%s: programs hang on the file system", e.name)
	}
	if !e.killed && n.isMounted() {
		n.t.Errorf("%s: still mounted", e.name)
	}
	if e.name == "SQLite" && !strings.Contains(n.log.String(), "database failed") {
		n.t.Errorf("nothing says why: %s", n.log.String())
	}
	n.start()
	l.check(n)
	n.cmd.Process.Signal(syscall.SIGTERM)
	if err := n.end(); err != nil {
		n.t.Error(err)
	}
}

// load is programs that use the mount.
type load struct {
	stop  atomic.Bool
	work  sync.WaitGroup
	saved [3]atomic.Int64 // the last number that each writer has saved
}

func (n *node) load() *load {
	l := &load{}
	for w := range l.saved {
		l.work.Go(func() {
			name := n.path(fmt.Sprintf("busy/n%d", w))
			for i := int64(1); !l.stop.Load(); i++ {
				if os.WriteFile(name, fmt.Appendf(nil, "%020d", i), 0o640) == nil && isOn(name) {
					l.saved[w].Store(i)
				}
				os.Rename(name, name+"~") // departs, and is back
				os.Rename(name+"~", name)
			}
		})
	}
	l.work.Go(func() {
		for i := 0; !l.stop.Load(); i++ {
			dir := n.path(fmt.Sprintf("busy/lock%d", i%3))
			os.Mkdir(dir, 0o755)
			os.ReadDir(n.path("busy"))
			os.Remove(dir)
			gone := n.path(fmt.Sprintf("busy/gone%d", i))
			os.WriteFile(gone, nil, 0o640)
			os.Rename(gone, gone+"~") // and the daemon removes it itself
		}
	})
	return l
}

// isOn reports whether a file is on the mount: what is written when that is gone
// falls into the directory below.
func isOn(name string) bool {
	var s unix.Statfs_t
	return unix.Statfs(name, &s) == nil && s.Type == unix.FUSE_SUPER_MAGIC
}

func (l *load) ended() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.work.Wait()
	}()
	return done
}

// check compares what the writers know to be saved with what is there. A save
// that was under way may have happened.
func (l *load) check(n *node) {
	n.t.Helper()
	for w := range l.saved {
		want := l.saved[w].Load()
		if want == 0 {
			continue
		}
		b, err := os.ReadFile(n.path(fmt.Sprintf("busy/n%d", w)))
		var got int64
		fmt.Sscanf(string(b), "%d", &got)
		if err != nil && !errors.Is(err, os.ErrNotExist) || got < want {
			n.t.Errorf("writer %d has saved %d, and %q is there, %v", w, want, b, err)
		}
	}
}
