package mount

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcpve/cfs/command"
)

// watcher is a running inotifywait.
type watcher struct {
	mu    sync.Mutex // guards lines and times
	lines []string
	times []time.Time
}

// watch starts inotifywait on directories of the mount. It prints an event a
// line: "EVENTS path".
func (r *rig) watch(dirs ...string) *watcher {
	r.t.Helper()
	tool, err := exec.LookPath("inotifywait")
	if err != nil {
		r.t.Skip("inotifywait is not installed")
	}
	args := []string{"-m", "--format", "%e %w%f", "-e", "create,modify,attrib,delete,move"}
	for _, d := range dirs {
		args = append(args, r.path(d))
	}
	cmd := exec.Command(tool, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	info, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ready := make(chan struct{})
	w := &watcher{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := bufio.NewScanner(info); s.Scan(); {
			if strings.Contains(s.Text(), "established") {
				close(ready)
			}
		}
	})
	wg.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			w.mu.Lock()
			w.lines = append(w.lines, strings.ReplaceAll(s.Text(), r.dir+"/", ""))
			w.times = append(w.times, time.Now())
			w.mu.Unlock()
		}
	})
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		wg.Wait()
		cmd.Wait()
	})
	<-ready
	return w
}

// count returns how many events begin with text.
func (w *watcher) count(text string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		if strings.HasPrefix(l, text) {
			n++
		}
	}
	return n
}

// length returns how many events were heard so far.
func (w *watcher) length() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lines)
}

// hasSince reports whether any event after the first seen ones tells of text.
func (w *watcher) hasSince(seen int, text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.lines[seen:], func(l string) bool { return strings.Contains(l, text) })
}

func (w *watcher) has(text string) bool { return w.count(text) > 0 }

func TestRemoteChangesRingInotify(t *testing.T) {
	r := newRig(t)
	r.mkdirs("watched")
	w := r.watch("watched")
	for _, c := range []struct {
		op             command.Op
		path, to, data string
		events         []string
	}{
		{command.Write, "watched/a", "", "1", []string{"CREATE watched/a"}},
		{command.Write, "watched/a", "", "2", []string{"MODIFY watched/a"}},
		{command.Mkdir, "watched/d", "", "", []string{"CREATE,ISDIR watched/d"}},
		{command.Touch, "watched/a", "", "", []string{"ATTRIB watched/a"}},
		{command.Rename, "watched/a", "watched/b", "", []string{"MOVED_FROM watched/a", "MOVED_TO watched/b"}},
		{command.Remove, "watched/b", "", "", []string{"DELETE watched/b"}},
		{command.Rmdir, "watched/d", "", "", []string{"DELETE,ISDIR watched/d"}},
	} {
		r.remote(c.op, c.path, c.to, c.data)
		for _, e := range c.events {
			eventually(t, e, func() bool { return w.has(e) })
		}
	}
	if n := r.tree.Version(); n == 0 {
		t.Error("nothing happened")
	}
}

func TestEveryRemoteChangeIsHeard(t *testing.T) {
	files, rounds := 50, 40
	if testing.Short() {
		rounds = 5
	}
	r := newRig(t)
	r.mkdirs("watched", "busy")
	w := r.watch("watched")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // local work in the same tree, and lookups that fill the kernel's caches
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.WriteFile(r.path(fmt.Sprintf("busy/%d", i%20)), []byte("x"), 0o640)
			seen, local := w.length(), fmt.Sprintf("watched/local%d", i%3)
			os.WriteFile(r.path(local), []byte("x"), 0o640)
			// The kernel drops events of a program that lags behind by 16,384.
			eventually(t, "the local write", func() bool { return w.hasSince(seen, local) })
			for f := range files {
				os.Stat(r.path(fmt.Sprintf("watched/f%d", f)))
			}
		}
	})
	for range rounds {
		for f := range files {
			r.remote(command.Write, fmt.Sprintf("watched/f%d", f), "", "1")
		}
		for f := range files {
			r.remote(command.Rename, fmt.Sprintf("watched/f%d", f), fmt.Sprintf("watched/g%d", f), "")
		}
		for f := range files {
			r.remote(command.Remove, fmt.Sprintf("watched/g%d", f), "", "")
		}
	}
	want := files * rounds
	for _, e := range []string{"CREATE watched/f", "MOVED_FROM watched/f", "MOVED_TO watched/g", "DELETE watched/g"} {
		deadline := time.Now().Add(patience)
		for w.count(e) < want && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n := w.count(e); n != want {
			t.Errorf("%s: %d of %d heard", e, n, want)
		}
	}
	close(stop)
	wg.Wait()
	names, err := os.ReadDir(r.path("watched"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), "local") {
			t.Errorf("%s is left over", n.Name())
		}
	}
}

// TestALocalSaveIsHeardWhenItCanBeRead: the kernel's own event of a write comes
// before the content is committed.
func TestALocalSaveIsHeardWhenItCanBeRead(t *testing.T) {
	r := newRig(t)
	r.mkdirs("watched")
	r.write("watched/a", "1")
	w := r.watch("watched")
	f, err := os.OpenFile(r.path("watched/a"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("2")
	f.Sync() // committed, with the file still open
	eventually(t, "an event after the commit", func() bool { return w.count("MODIFY watched/a") >= 2 })
	f.Close()
}

func TestTheBellIsStartedAgain(t *testing.T) {
	r := newRig(t)
	r.mkdirs("watched")
	w := r.watch("watched")
	r.remote(command.Write, "watched/a", "", "1")
	eventually(t, "the first event", func() bool { return w.has("CREATE watched/a") })
	if err := syscall.Kill(int(r.m.queue.bell.Thread()), syscall.SIGKILL); err != nil { // its first thread
		t.Fatal(err)
	}
	eventually(t, "an event of the new bell", func() bool {
		r.remote(command.Write, "watched/a", "", "2")
		time.Sleep(20 * time.Millisecond)
		return w.has("MODIFY watched/a")
	})
}

func TestRemoteChangesAreSeenAtOnce(t *testing.T) {
	r := newRig(t)
	r.mkdirs("d")
	for i := range 200 {
		name, want := fmt.Sprintf("d/f%d", i%7), strings.Repeat("x", i+1)
		os.Stat(r.path(name))
		r.remote(command.Write, name, "", want)
		eventually(t, "the size", func() bool { st, err := os.Stat(r.path(name)); return err == nil && st.Size() == int64(len(want)) })
		if i%5 == 4 {
			r.remote(command.Remove, name, "", "")
			eventually(t, "the removal", func() bool { _, err := os.Stat(r.path(name)); return os.IsNotExist(err) })
			if l, err := os.ReadDir(r.path("d")); err != nil || len(l) >= 7 {
				t.Errorf("%d entries, %v", len(l), err)
			}
		}
	}
}

// The bell itself goes into a directory that is new on another node; that must not
// count as somebody's interest, and somebody's must not be missed.
func TestADirectoryThatNobodyLookedIntoIsNotRungIn(t *testing.T) {
	r := newRig(t)
	r.mkdirs("watched")
	w := r.watch("watched")
	r.remote(command.Mkdir, "watched/d", "", "")
	eventually(t, "the directory", func() bool { return w.has("CREATE,ISDIR watched/d") })
	d, ok := r.tree.Lookup("watched/d")
	if !ok {
		t.Fatal("no watched/d in the tree")
	}
	r.remote(command.Write, "watched/d/a", "", "1")
	r.remote(command.Write, "watched/after", "", "1") // is rung after what comes before it
	eventually(t, "what came after", func() bool { return w.has("CREATE watched/after") })
	if r.m.known.Has(d.Inode) {
		t.Error("the bell's own call made the directory known")
	}
	if _, err := os.Stat(r.path("watched/d/missing")); err == nil {
		t.Error("watched/d/missing is there")
	}
	if !r.m.known.Has(d.Inode) {
		t.Error("a directory that was looked into is not known")
	}
	inside := r.watch("watched/d")
	r.remote(command.Write, "watched/d/missing", "", "1")
	r.remote(command.Write, "watched/d/a", "", "2")
	eventually(t, "CREATE", func() bool { return inside.has("CREATE watched/d/missing") })
	eventually(t, "MODIFY", func() bool { return inside.has("MODIFY watched/d/a") })
	if _, err := os.Stat(r.path("watched/d/missing")); err != nil {
		t.Errorf("what had been missed when it was not there: %v", err)
	}
}
