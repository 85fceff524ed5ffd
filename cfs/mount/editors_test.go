package mount

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/cfs/command"
)

// shell runs a script in the mount and returns its output.
func (r *rig) shell(script string) (string, error) {
	// The shell changes into the mount itself: between fork and exec this
	// process cannot answer it.
	cmd := exec.Command("bash", "-c", "cd "+r.dir+" && "+script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestEditorsAndToolsSave(t *testing.T) {
	r := newRig(t)
	const path = "nodes/n1/qemu-server/100.conf"
	for _, c := range []struct {
		tool, script, want string
		commits            int64 // at most
	}{
		{"bash", `echo "name: b" > FILE`, "name: b\n", 1},
		{"bash", `{ echo "name: b"; echo "cores: 1"; } > FILE`, "name: b\ncores: 1\n", 1},
		{"bash", `{ /bin/echo "name: b"; /bin/echo "cores: 1"; } > FILE`, "name: b\ncores: 1\n", 1},
		{"bash", `exec 3> FILE; echo "name: b" >&3; /bin/echo "cores: 1" >&3; exec 3>&-`, "name: b\ncores: 1\n", 1},
		{"bash", `: > FILE`, "", 1},
		{"bash", `echo "name: c" >> FILE`, "name: a\nname: c\n", 1},
		{"tee", `echo "name: t" | tee FILE >/dev/null`, "name: t\n", 1},
		{"cp", `echo "name: cp" > /tmp/cp.$$ && cp /tmp/cp.$$ FILE; rm /tmp/cp.$$`, "name: cp\n", 1},
		{"mv", `echo "name: mv" > /tmp/mv.$$ && mv /tmp/mv.$$ FILE`, "name: mv\n", 4},
		{"sed", `sed -i s/a$/sed/ FILE`, "name: sed\n", 1},
		{"sed", `sed -i.bak s/a$/sed/ FILE && rm FILE.bak`, "name: sed\n", 3},
		{"python3", `python3 -c 'with open("FILE","w") as f: f.write("name: py\n")'`, "name: py\n", 1},
		{"python3", `python3 -c 'with open("FILE","a") as f: f.write("cores: 3\n")'`, "name: a\ncores: 3\n", 1},
		{"perl", `perl -pi -e s/a$/perl/ FILE`, "name: perl\n", 3},
		{"ex", `ex -s -c '%s/a$/ex/' -c wq FILE`, "name: ex\n", 2},
		{"vim", `vim -es -u NONE -c 'set backup backupcopy=no' -c '%s/a$/vim/' -c wq FILE`, "name: vim\n", 1},
		{"vim", `vim -es -u NONE -c 'set nobackup writebackup backupcopy=no' -c '%s/a$/vim/' -c wq FILE`, "name: vim\n", 1},
		{"vim", `vim -es -u NONE -c 'set backupcopy=yes' -c '%s/a$/vim/' -c wq FILE`, "name: vim\n", 1},
		{"truncate", `truncate -s 0 FILE`, "", 1},
		{"dd", `printf 'name: dd\n' | dd of=FILE status=none`, "name: dd\n", 1},
		{"install", `echo "name: i" > /tmp/i.$$; cat /tmp/i.$$ > FILE.tmp.$$ && mv FILE.tmp.$$ FILE; rm /tmp/i.$$`, "name: i\n", 1},
	} {
		if _, err := exec.LookPath(c.tool); err != nil {
			t.Logf("%s is not installed", c.tool)
			continue
		}
		r.write(path, "name: a\n")
		version, _ := r.tree.Guest(100)
		script := strings.ReplaceAll(c.script, "FILE", path)
		n := r.commitsOf(func() {
			if out, err := r.shell(script); err != nil {
				t.Errorf("%s: %v: %s", c.script, err, out)
			}
		})
		if n > c.commits || n < 1 {
			t.Errorf("%s: %d commits; want at most %d", c.script, n, c.commits)
		}
		r.holds(path, c.want)
		if g, ok := r.tree.Guest(100); !ok || g.Version == version.Version {
			t.Errorf("%s: the guest is %v, %v", c.script, g, ok)
		}
		r.shell("rm -f " + path + "~ nodes/n1/qemu-server/.*.sw?")
		if names := r.tree.List(mustLookup(t, r, "nodes/n1/qemu-server")); len(names) != 1 {
			t.Errorf("%s left something in the cluster: %v", c.script, names)
		}
	}
}

// TestExecClosesWhatWasWritten: while the kernel replaces a program it closes
// files, and lets nobody look at the process. Whoever looked would not return.
func TestExecClosesWhatWasWritten(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	r := newRig(t)
	for script, want := range map[string]string{
		`f = open("f", "w"); f.write("x"); f.flush(); os.execv("/bin/true", ["true"])`:                   "x",
		`f = open("f", "w"); os.execv("/bin/true", ["true"])`:                                            "",
		`f = open("f", "w"); f.write("y"); f.flush(); subprocess.run(["true"]); f.write("z"); f.close()`: "yz",
		`f = open("f", "w"); subprocess.run(["true"]); f.close(); subprocess.run(["true"])`:              "",
	} {
		inTime(t, script, patience, func() {
			if out, err := r.shell("echo old > f; python3 -c 'import os, subprocess; " + script + "'"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		eventually(t, script, func() bool { e, ok := r.tree.Lookup("f"); return ok && string(e.Data) == want })
	}
}

// TestProgramsAreStartedWhileFilesAreEmptied: each start closes copies of the
// files that other threads have open.
func TestProgramsAreStartedWhileFilesAreEmptied(t *testing.T) {
	r := newRig(t)
	script := `
import os, subprocess, threading
def empty(i):
    for n in range(40):
        open("f%d" % i, "w").close()
threads = [threading.Thread(target=empty, args=(i,)) for i in range(4)]
for t in threads: t.start()
for n in range(40): subprocess.run(["true"])
for t in threads: t.join()
`
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	inTime(t, "python3", patience, func() {
		if out, err := r.shell("python3 -c '" + script + "'"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// inTime runs do and fails when it takes too long. The end of the test closes
// the mount then, without which what hangs in the kernel could not be ended.
func inTime(t *testing.T, what string, limit time.Duration, do func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		do()
	}()
	select {
	case <-ended:
	case <-time.After(limit):
		t.Fatalf("%s: not within %v", what, limit)
	}
}

func mustLookup(t *testing.T, r *rig, path string) uint64 {
	t.Helper()
	e, ok := r.tree.Lookup(path)
	if !ok {
		t.Fatalf("%s is not in the tree", path)
	}
	return e.Inode
}

func TestARefusedEchoFails(t *testing.T) {
	r := newRig(t)
	const path = "nodes/n1/qemu-server/100.conf"
	r.write(path, "cores: 2\n")
	out, err := r.shell(`echo "cores: many" > ` + path)
	if err == nil || !strings.Contains(out, "Invalid argument") {
		t.Errorf("bash believes in a save that was refused: %v %q", err, out)
	}
	r.holds(path, "cores: 2\n")
}

func TestAFileThatDepartsIsRemovedInTime(t *testing.T) {
	r := newRig(t)
	r.write("a", "content")
	if err := os.Rename(r.path("a"), r.path("a~")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.path("a")); !os.IsNotExist(err) {
		t.Errorf("after the rename: %v", err)
	}
	if _, ok := r.tree.Lookup("a"); !ok {
		t.Error("the cluster lost the file at once")
	}
	eventually(t, "the file is removed", func() bool { _, ok := r.tree.Lookup("a"); return !ok })
	if got := r.read("a~"); got != "content" {
		t.Errorf("the backup holds %q", got)
	}
	r.write("b", "content")
	n := r.commitsOf(func() {
		os.Rename(r.path("b"), r.path("b~"))
		os.Rename(r.path("b~"), r.path("b"))
	})
	if n != 0 {
		t.Errorf("going away and coming back took %d commits", n)
	}
	r.holds("b", "content")
}

func TestAWriterThatIsKilledDoesNotHang(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.hold = make(chan struct{})
	cmd := exec.Command("bash", "-c", "echo 2 > "+r.path("a"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its save", func() bool { return r.waiting.Load() > 0 })
	cmd.Process.Kill()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("a killed writer hangs")
	}
	close(r.hold)
}

// TestBusyWorkersBlockNobodyElse holds many writers, and reads meanwhile; what
// another node changes is heard all the same.
func TestBusyWorkersBlockNobodyElse(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.mkdirs("d", "watched")
	w := r.watch("watched")
	r.hold = make(chan struct{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { os.WriteFile(r.path(fmt.Sprintf("w%d", i)), []byte("x"), 0o640) })
		wg.Go(func() { os.Mkdir(r.path(fmt.Sprintf("d/%d", i)), 0o755) })
	}
	for i := range 200 {
		r.apply(&command.Command{ID: uint64(i + 1), Node: "far", Op: command.Write, Path: fmt.Sprintf("watched/far%d", i), Data: []byte("far")})
	}
	eventually(t, "remote files are heard of", func() bool { return w.count("CREATE watched/far") == 200 })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 1000 {
			r.read("a")
		}
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("readers wait for writers")
	}
	close(r.hold)
	wg.Wait()
	eventually(t, "remote files show", func() bool { _, err := os.Stat(r.path("watched/far199")); return err == nil })
}

func TestRemovedWhileOpen(t *testing.T) {
	r := newRig(t)
	r.write("a", "content")
	f, err := os.OpenFile(r.path("a"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(r.path("a")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
		t.Errorf("the open file reads %q, %v", b, err)
	}
	f.WriteString("more")
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if _, ok := r.tree.Lookup("a"); ok {
		t.Error("a removed file came back")
	}
	names, _ := os.ReadDir(r.dir)
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".fuse_hidden") {
			t.Errorf("%s is left", n.Name())
		}
	}
}
