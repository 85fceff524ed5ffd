package mount

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/format"
	"etcpve/cfs/mount/bell"
	"etcpve/cfs/mount/review"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary its own bell.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == bell.Argument {
		if err := bell.Main(os.Args[2:]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(asVictim); dir != "" {
		beVictim(dir)
	}
	if dir := os.Getenv(asGuard); dir != "" {
		beGuard(dir)
	}
	os.Exit(m.Run())
}

// order is a group of one without a log: it applies what is proposed.
type order struct {
	t       testing.TB
	tree    *tree.Tree
	mount   atomic.Pointer[Mount]
	lost    atomic.Bool   // no quorum
	hold    chan struct{} // proposals wait for it, if it is set
	waiting atomic.Int64  // proposals that wait for it
	commits atomic.Int64

	mu       sync.Mutex // guards what follows
	index    uint64
	onCommit func(*command.Command) // hears of each command that was applied
}

func (o *order) Quorate() bool { return !o.lost.Load() }

func (o *order) Propose(ctx context.Context, c *command.Command) (tree.Result, error) {
	if o.hold != nil {
		o.waiting.Add(1)
		defer o.waiting.Add(-1)
		select {
		case <-o.hold:
		case <-ctx.Done():
			return tree.Result{}, ctx.Err()
		}
	}
	c, err := command.Unmarshal(c.Marshal()) // as it comes back from a log
	if err != nil {
		return tree.Result{}, err
	}
	return o.apply(c), nil
}

func (o *order) apply(c *command.Command) tree.Result {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index++
	x := o.tree.Begin()
	r, changes := x.Apply(o.index, c)
	x.Publish()
	if r.Err == nil {
		o.commits.Add(1)
		if o.onCommit != nil {
			o.onCommit(c)
		}
	}
	if m := o.mount.Load(); m != nil {
		m.Applied(changes)
	}
	return r
}

// remote applies a change that another node made.
func (o *order) remote(op command.Op, path, to, data string) {
	o.t.Helper()
	r := o.apply(&command.Command{ID: uint64(time.Now().UnixNano()), Node: "far", Time: time.Now().Unix(), Op: op, Path: path, To: to, Data: []byte(data)})
	if r.Err != nil {
		o.t.Fatalf("remote %v %s: %v", op, path, r.Err)
	}
}

// rig is a mounted tree of a test.
type rig struct {
	*order
	m   *Mount
	dir string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse: ", err)
	}
	r := &rig{order: &order{t: t, tree: tree.New()}, dir: t.TempDir()}
	guard(t, r.dir)
	var err error
	if r.m, err = New(r.config()); err != nil {
		t.Fatal(err)
	}
	r.mount.Store(r.m)
	refusePoll(t, r.dir)
	t.Cleanup(func() {
		if err := r.m.Close(); err != nil {
			t.Error(err)
		}
	})
	r.mkdirs("nodes", "nodes/n1", "nodes/n1/qemu-server", "nodes/n1/lxc", "priv", "priv/lock", "power")
	return r
}

// config is that of a mount of r's tree at r's directory.
func (r *rig) config() Config {
	begin := time.Now()
	return Config{
		Dir: r.dir, Node: "n1", GID: 33, Tree: r.tree, Proposer: r.order, Bell: "/proc/self/exe",
		Locks:  tree.NewLocks(r.tree, func() time.Duration { return time.Since(begin) }),
		Check:  func(path string) review.Checker { return format.NewChecker(path) },
		Status: status.New("n1", time.Now), ClusterLog: &status.Log{},
		Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar), Now: time.Now,
	}
}

// refusePoll has the server refuse poll once, so that the kernel never asks
// again: the poller of this process would otherwise wait for this process.
func refusePoll(t testing.TB, dir string) {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) mkdirs(names ...string) {
	r.t.Helper()
	for _, n := range names {
		if err := os.Mkdir(r.path(n), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) write(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(content), 0o640); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// holds compares a file as seen through the mount, by stat, and in the tree.
func (r *rig) holds(name, want string) {
	r.t.Helper()
	if got := r.read(name); got != want {
		r.t.Errorf("%s holds %q; want %q", name, got, want)
	}
	if e, ok := r.tree.Lookup(name); ok && string(e.Data) != want {
		r.t.Errorf("the tree holds %q in %s; want %q", e.Data, name, want)
	}
	if st, err := os.Stat(r.path(name)); err != nil || st.Size() != int64(len(want)) {
		r.t.Errorf("%s: stat says %v, %v; want %d bytes", name, st, err, len(want))
	}
}

// commitsOf returns how many commits do makes.
func (r *rig) commitsOf(do func()) int64 {
	before := r.commits.Load()
	do()
	return r.commits.Load() - before
}

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = 2 * time.Minute

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func TestOneSaveIsOneCommit(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("x", 500_000)
	for _, c := range []struct {
		name    string
		commits int64
		save    func()
	}{
		{"new file", 1, func() { r.write("a", "one\n") }},
		{"overwritten", 1, func() { r.write("a", "two\n") }},
		{"many writes", 1, func() { r.write("b", big) }},
		{"tmp and rename", 1, func() {
			r.write("a.tmp.1", "three\n")
			if err := os.Rename(r.path("a.tmp.1"), r.path("a")); err != nil {
				t.Fatal(err)
			}
		}},
		{"emptied", 1, func() { r.write("a", "") }},
		{"truncate", 1, func() {
			if err := os.Truncate(r.path("b"), 10); err != nil {
				t.Fatal(err)
			}
		}},
		{"not written", 0, func() {
			f, err := os.OpenFile(r.path("b"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}},
		{"appended", 1, func() {
			f, err := os.OpenFile(r.path("b"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString("y")
			f.WriteString("z")
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"synced", 2, func() {
			f, err := os.Create(r.path("c"))
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString("1")
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if e, ok := r.tree.Lookup("c"); !ok || string(e.Data) != "1" {
				t.Error("fsync did not commit")
			}
			f.WriteString("2")
			f.Close()
		}},
	} {
		if n := r.commitsOf(c.save); n != c.commits {
			t.Errorf("%s: %d commits; want %d", c.name, n, c.commits)
		}
	}
	r.holds("a", "")
	r.holds("b", "xxxxxxxxxxyz")
	r.holds("c", "12")
}

func TestNobodySeesAnUnsavedFile(t *testing.T) {
	r := newRig(t)
	r.write("old", "before")
	for _, name := range []string{"old", "new"} {
		f, err := os.OpenFile(r.path(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("after")
		if st, err := f.Stat(); err != nil || name == "new" && st.Name() == "" {
			t.Error(err)
		}
		if off, err := f.Seek(0, 2); err != nil || off != 5 {
			t.Errorf("the writer of %s sees its end at %d, %v", name, off, err)
		}
		if name == "old" {
			r.holds(name, "before")
		} else if _, err := os.Stat(r.path(name)); !os.IsNotExist(err) {
			t.Errorf("a file that was never saved can be seen: %v", err)
		}
		f.Close()
		r.holds(name, "after")
	}
}

func TestAppendersLoseNothing(t *testing.T) {
	r := newRig(t)
	r.write("log", "")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				f, err := os.OpenFile(r.path("log"), os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(f, "%d-%d\n", w, i)
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := strings.Count(r.read("log"), "\n"); n != 100 {
		t.Errorf("%d of 100 lines are there", n)
	}
}

// TestAFileThatIsOpenTwiceIsSavedByEach closes one of two openings of one process, whose
// last copy a child keeps, so that the kernel does not tell of its end.
func TestAFileThatIsOpenTwiceIsSavedByEach(t *testing.T) {
	r := newRig(t)
	r.write("log", "one\n")
	open := func() *os.File {
		f, err := os.OpenFile(r.path("log"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open(), open()
	child := exec.Command("cat")
	child.Stdout = first
	end, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer end.Close()
	if _, err := first.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	r.holds("log", "one\ntwo\n")
	if _, err := second.WriteString("three\n"); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	r.holds("log", "one\ntwo\nthree\n")
}

func TestABadSaveIsRefused(t *testing.T) {
	r := newRig(t)
	const path = "nodes/n1/qemu-server/100.conf"
	const good = "cores: 2\n"
	r.write(path, good)
	bad := "cores: many\n"
	if err := os.WriteFile(r.path(path), []byte(bad), 0o640); !isErrno(err, syscall.EINVAL) {
		t.Errorf("a save that cannot be read: %v", err)
	}
	r.holds(path, good)
	r.write(path+".tmp.7", bad)
	if err := os.Rename(r.path(path+".tmp.7"), r.path(path)); !isErrno(err, syscall.EINVAL) {
		t.Errorf("a rename of what cannot be read: %v", err)
	}
	r.holds(path, good)
	r.write("100.conf.new", bad) // nobody's file, and the same on all nodes
	if err := os.Rename(r.path("100.conf.new"), r.path(path)); !isErrno(err, syscall.EINVAL) {
		t.Errorf("a rename of a whole file that cannot be read: %v", err)
	}
	r.holds(path, good)
	r.write("100.conf.new", "cores: 3\n")
	if err := os.Rename(r.path("100.conf.new"), r.path(path)); err != nil {
		t.Error(err)
	}
	r.holds(path, "cores: 3\n")
	r.write(path, good)
	rejected := r.read(".rejected")
	if !strings.Contains(rejected, path+":1:") || !strings.Contains(rejected, "cores") {
		t.Errorf(".rejected does not say where and why: %q", rejected)
	}
	f, err := os.OpenFile(r.path(path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(bad); !isErrno(err, syscall.EINVAL) {
		t.Errorf("the write of a bad line: %v", err)
	}
	f.Close()
	r.holds(path, good)
}

func isErrno(err error, want syscall.Errno) bool {
	var e syscall.Errno
	for err != nil {
		var ok bool
		if e, ok = err.(syscall.Errno); ok {
			return e == want
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

func TestWithoutQuorumNothingIsWritable(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.lost.Store(true)
	r.m.Reset()
	eventually(t, "write bits vanish", func() bool {
		st, err := os.Stat(r.path("a"))
		return err == nil && st.Mode().Perm() == 0o440
	})
	for name, do := range map[string]func() error{
		"open":   func() error { return os.WriteFile(r.path("a"), []byte("2"), 0) },
		"create": func() error { return os.WriteFile(r.path("b"), []byte("2"), 0) },
		"mkdir":  func() error { return os.Mkdir(r.path("d"), 0) },
		"remove": func() error { return os.Remove(r.path("a")) },
		"rename": func() error { return os.Rename(r.path("a"), r.path("c")) },
		"backup": func() error { return os.Rename(r.path("a"), r.path("a~")) },
	} {
		if err := do(); !isErrno(err, syscall.EACCES) {
			t.Errorf("%s: %v; want EACCES", name, err)
		}
	}
	r.holds("a", "1")
	r.lost.Store(false)
	r.m.Reset()
	r.write("a", "2")
}
