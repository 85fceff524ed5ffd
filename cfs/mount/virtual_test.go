package mount

import (
	"bufio"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/status"
)

func TestVirtualFilesAreJSON(t *testing.T) {
	r := newRig(t)
	r.write("nodes/n1/qemu-server/100.conf", "cores: 1\n")
	r.write("nodes/n1/lxc/101.conf", "arch: amd64\n")
	for _, name := range []string{".version", ".members", ".vmlist", ".clusterlog"} {
		var v map[string]any
		if err := json.Unmarshal([]byte(r.read(name)), &v); err != nil {
			t.Errorf("%s: %v in %s", name, err, r.read(name))
		}
		if err := os.WriteFile(r.path(name), []byte("x"), 0); !isErrno(err, syscall.EIO) {
			t.Errorf("writing %s: %v; want EIO", name, err)
		}
	}
	if list := r.read(".vmlist"); !strings.Contains(list, `"100": { "node": "n1", "type": "qemu", "version": `) {
		t.Errorf(".vmlist: %s", list)
	}
	r.m.cfg.Status.Set(status.RRD, "pve-node-9.0/n1", []byte("1:2:3"))
	if got := r.read(".rrd"); got != "pve-node-9.0/n1:1:2:3\n" {
		t.Errorf(".rrd: %q", got)
	}
}

func TestSamplesAreTakenFromAgents(t *testing.T) {
	r := newRig(t)
	r.write(".rrd", "pve-node-9.0/n1:1:2:3\npve-storage-9.0/n1/local:1:2:3\n")
	r.write(".rrd", "pve-vm-9.0/100:0:a name:running:0:1:U\n")
	want := "pve-node-9.0/n1:1:2:3\npve-storage-9.0/n1/local:1:2:3\npve-vm-9.0/100:0:a name:running:0:1:U\n"
	if got := r.read(".rrd"); got != want {
		t.Errorf(".rrd: %q", got)
	}
	r.m.cfg.Status.Merge([]status.Value{{Node: "n2", Kind: status.RRD, Key: "pve-node-9.0/n2", Data: []byte("7"), Counter: 1, Expires: 1 << 40}})
	r.write(".rrd", r.read(".rrd")+"pve-node-9.0/n1:4:5:6\n")
	for _, v := range r.m.cfg.Status.List(status.RRD) {
		if v.Key == "pve-node-9.0/n2" && v.Node != "n2" {
			t.Error("what another node measured is said by this one")
		}
	}
	for _, bad := range []string{"no colon\n", "../../etc:1\n", "other/n1:1\n", "pve-node-9.0/n1:1\npve-node-9.0/a b:1\n", "pve-node-9.0/n1:\x01\n"} {
		if err := os.WriteFile(r.path(".rrd"), []byte(bad), 0); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if got := r.read(".rrd"); !strings.Contains(got, "pve-node-9.0/n1:4:5:6\n") {
		t.Errorf(".rrd: %q", got)
	}
}

func TestTheListingIsThatOfPmxcfs(t *testing.T) {
	r := newRig(t)
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := ".clusterlog .debug .members .rrd .version .vmlist local lxc nodes openvz power priv qemu-server"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the root lists %s; want %s", got, want)
	}
}

func TestDebugIsSwitched(t *testing.T) {
	r := newRig(t)
	if got := r.read(".debug"); got != "0\n" {
		t.Errorf(".debug holds %q", got)
	}
	r.write(".debug", "1\n")
	if got := r.read(".debug"); got != "1\n" || r.m.cfg.Level.Level() != slog.LevelDebug {
		t.Errorf(".debug holds %q, level %v", got, r.m.cfg.Level.Level())
	}
}

func TestStatusDocuments(t *testing.T) {
	r := newRig(t)
	const path = "nodes/n1/qemu-server/100.conf"
	const content = "cores: 1\n"
	r.write(path, content)
	if _, err := os.ReadFile(r.path(".status/" + path)); !os.IsNotExist(err) {
		t.Errorf("a file that nobody spoke of: %v", err)
	}
	document := fmt.Sprintf("state: applied\ndigest: %x\nnode: n1\n", sha1.Sum([]byte(content)))
	if err := os.MkdirAll(filepath.Dir(r.path(".status/"+path)), 0o755); err != nil {
		t.Error(err)
	}
	n := r.commitsOf(func() { r.write(".status/"+path, document) })
	if n != 0 {
		t.Errorf("a status took %d commits", n)
	}
	if got := r.read(".status/qemu-server/100.conf"); got != document {
		t.Errorf("the document says %q; want %q", got, document)
	}
	if err := os.WriteFile(r.path(".status/nowhere/a"), []byte("x"), 0o640); err == nil {
		t.Error("a status without a place was taken")
	}
	st, err := os.Stat(r.path(".status/priv"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf(".status/priv: %v %v", st, err)
	}
	if err := os.Remove(r.path(".status/" + path)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.path(".status/" + path)); !os.IsNotExist(err) {
		t.Errorf("a removed document: %v", err)
	}
}

type line struct {
	Index uint64
	Kind  string
	Path  string
	Gap   bool
	After uint64
}

// stream reads lines of .events on their way.
func stream(t *testing.T, path string) <-chan line {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan line, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := bufio.NewReader(f); ; {
			text, err := b.ReadBytes('\n')
			if err != nil {
				return
			}
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			lines <- l
		}
	}()
	t.Cleanup(func() {
		f.Close()
	})
	return lines
}

func next(t *testing.T, lines <-chan line) line {
	t.Helper()
	select {
	case l := <-lines:
		return l
	case <-time.After(patience):
		t.Fatal("no event in ", patience)
	}
	return line{}
}

func TestEventsAreStreamedAndResumed(t *testing.T) {
	r := newRig(t)
	r.write("before", "1")
	index := r.tree.Index()
	live := stream(t, r.path(".events"))
	r.write("a", "1")
	r.remote(command.Mkdir, "d", "", "")
	if l := next(t, live); l.Kind != "created" || l.Path != "a" || l.Index <= index {
		t.Errorf("first event: %+v", l)
	}
	if l := next(t, live); l.Path != "d" {
		t.Errorf("second event: %+v", l)
	}
	resumed := stream(t, r.path(fmt.Sprintf(".events.%d", index)))
	if l := next(t, resumed); l.Path != "a" {
		t.Errorf("resumed at: %+v", l)
	}
	for range 9000 { // more than are kept
		r.apply(&command.Command{Op: command.Write, Path: "a", Data: []byte("x")})
	}
	late := stream(t, r.path(fmt.Sprintf(".events.%d", index)))
	if l := next(t, late); !l.Gap || l.After != index {
		t.Errorf("a reader that is too late is told %+v", l)
	}
}

func TestPowerIsRefusedForWhoIsNotThere(t *testing.T) {
	r := newRig(t)
	// Already open(2) says so: shells do not look at what close(2) returns.
	if f, err := os.OpenFile(r.path("power/100"), os.O_CREATE|os.O_WRONLY, 0o640); !isErrno(err, syscall.EINVAL) {
		t.Errorf("opening the power of no guest: %v", err)
		f.Close()
	}
	if err := os.WriteFile(r.path("power/100"), []byte("running\n"), 0o640); !isErrno(err, syscall.EINVAL) {
		t.Errorf("power of a guest that does not exist: %v", err)
	}
	r.write("nodes/n1/qemu-server/100.conf", "cores: 1\n")
	if err := os.WriteFile(r.path("power/100"), []byte("maybe\n"), 0o640); !isErrno(err, syscall.EINVAL) {
		t.Errorf("a state that does not exist: %v", err)
	}
	r.write("power/100", "running\n")
	if err := os.Remove(r.path("nodes/n1/qemu-server/100.conf")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "power goes with the guest", func() bool { _, err := os.Stat(r.path("power/100")); return os.IsNotExist(err) })
}

// TestAVirtualNameIsListedOnce: the tree of another daemon may have entries that a
// virtual name hides.
func TestAVirtualNameIsListedOnce(t *testing.T) {
	r := newRig(t)
	r.remote(command.Write, "local", "", "hidden")
	r.remote(command.Mkdir, ".status", "", "")
	r.mkdirs("nodes/n1/lxc/local", "nodes/n1/lxc/.status") // elsewhere they are names like any other
	for dir, want := range map[string]int{".": 1, "nodes/n1/lxc": 2} {
		names, err := os.ReadDir(r.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, n := range names {
			if n.Name() == "local" || n.Name() == ".status" {
				found++
			}
		}
		if found != want {
			t.Errorf("%s: %d of the names; want %d", dir, found, want)
		}
	}
}
