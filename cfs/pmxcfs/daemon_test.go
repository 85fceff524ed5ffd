package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asDaemon makes the test binary the daemon itself.
const asDaemon = "PMXCFS_TEST_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// node is a daemon under test.
type node struct {
	t       testing.TB
	dir, db string
	cmd     *exec.Cmd
	log     bytes.Buffer
	ended   chan error
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	return &node{t: t, dir: t.TempDir(), db: filepath.Join(t.TempDir(), "config.db")}
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append(args, "--mount", n.dir, "--db", n.db, "--node", "n1")...)
	cmd.Env = append(os.Environ(), asDaemon+"=1")
	return cmd
}

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = 2 * time.Minute

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) start() {
	n.t.Helper()
	n.cmd = n.command("-f")
	n.log.Reset()
	n.cmd.Stderr = &n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.ended = make(chan error, 1)
	cmd, ended := n.cmd, n.ended
	go func() { ended <- cmd.Wait() }()
	n.t.Cleanup(func() { cmd.Process.Kill(); unix.Unmount(n.dir, unix.MNT_DETACH) })
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(n.path(".version")); err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatal("does not mount")
		}
	}
}

// end waits for the daemon to end.
func (n *node) end() error {
	n.t.Helper()
	select {
	case err := <-n.ended:
		return err
	case <-time.After(patience):
		n.t.Fatal("the daemon does not end")
		return nil
	}
}

func (n *node) isMounted() bool {
	n.t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.Contains(string(table), " "+n.dir+" ")
}

func TestASaveSurvivesKill(t *testing.T) {
	n := newNode(t)
	n.start()
	if err := os.WriteFile(n.path("a"), []byte("kept"), 0o640); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(n.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	n.cmd.Process.Kill()
	n.end()
	stat := make(chan error, 1)
	go func() { _, err := os.ReadDir(n.dir); stat <- err }()
	select {
	case err := <-stat:
		if !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("the mount of a daemon that was killed: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the mount of a daemon that was killed hangs")
	}
	n.start() // over what the first one has left
	if b, err := os.ReadFile(n.path("a")); err != nil || string(b) != "kept" {
		t.Errorf("after the restart: %q, %v", b, err)
	}
}

func TestTheDaemonEndsOnASignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		n := newNode(t)
		n.start()
		held, err := os.Create(n.path("open"))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		events, err := os.Open(n.path(".events"))
		if err != nil {
			t.Fatal(err)
		}
		defer events.Close()
		go events.Read(make([]byte, 100))
		n.cmd.Process.Signal(signal)
		if err := n.end(); err != nil {
			t.Errorf("%v: %v\n%s", signal, err, n.log.String())
		}
		if n.isMounted() {
			t.Errorf("%v: still mounted", signal)
		}
		for _, side := range []string{"-wal", "-shm"} {
			if _, err := os.Stat(n.db + side); err == nil {
				t.Errorf("%v: %s%s is left", signal, n.db, side)
			}
		}
	}
}

func TestTheDaemonEndsWhenItIsUnmounted(t *testing.T) {
	n := newNode(t)
	n.start()
	if err := os.WriteFile(n.path("a"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // the bell may be busy
		out, err := exec.Command("fusermount3", "-u", n.dir).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := n.end(); err != nil {
		t.Errorf("%v\n%s", err, n.log.String())
	}
}

func TestOneDaemonForEachDatabase(t *testing.T) {
	n := newNode(t)
	n.start()
	other := exec.Command("/proc/self/exe", "-f", "--mount", t.TempDir(), "--db", n.db, "--node", "n1")
	other.Env = append(os.Environ(), asDaemon+"=1")
	out, err := other.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another pmxcfs") {
		t.Errorf("a second daemon: %v %s", err, out)
	}
}

func TestNothingIsMountedOver(t *testing.T) {
	n := newNode(t)
	if err := os.WriteFile(n.path("mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := n.command("-f").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not empty") {
		t.Errorf("a directory that is in use: %v %s", err, out)
	}
	n = newNode(t)
	if err := unix.Mount("tmpfs", n.dir, "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	defer unix.Unmount(n.dir, 0)
	out, err = n.command("-f").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tmpfs") || !n.isMounted() {
		t.Errorf("a foreign mount: %v %s", err, out)
	}
}

func TestStartReturnsWhenMounted(t *testing.T) {
	n := newNode(t)
	if out, err := n.command().CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(n.path(".version")); err != nil {
		t.Error("started, and not mounted: ", err)
	}
	if err := unix.Unmount(n.dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
	n.awaitClosed()
	os.WriteFile(n.path("mine"), nil, 0o600)
	if out, err := n.command().CombinedOutput(); err == nil || !strings.Contains(string(out), "not empty") {
		t.Errorf("a start that fails: %v %s", err, out)
	}
}

// awaitClosed waits for the end of a daemon in the background.
func (n *node) awaitClosed() {
	n.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(n.db + "-wal"); os.IsNotExist(err) { // closed in order
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatal("the daemon is still running")
		}
	}
}

func TestHistoryRestores(t *testing.T) {
	n := newNode(t)
	n.start()
	const path = "storage.cfg"
	for _, content := range []string{"dir: aa\n\tpath /a\n", "dir: bb\n\tpath /b\n"} {
		if err := os.WriteFile(n.path(path), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(n.path(".history/storage.cfg/log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	f := strings.Fields(lines[0])
	if len(lines) != 2 || len(f) != 5 || f[2] != "n1" || f[3] != "root" || f[4] != "17" {
		t.Fatalf("log: %s", log)
	}
	if out, err := exec.Command("cp", n.path(".history/storage.cfg/"+f[0]), n.path(path)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if b, _ := os.ReadFile(n.path(path)); string(b) != "dir: aa\n\tpath /a\n" {
		t.Errorf("restored: %q", b)
	}
	if err := os.Mkdir(n.path("priv"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.path("priv/shadow.cfg"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(n.path(".history/priv/shadow.cfg/log")); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("the history of a private file: %v, %v", st, err)
	}
	names, err := os.ReadDir(n.path(".history"))
	if err != nil || len(names) != 6 {
		t.Errorf(".history lists %v, %v", names, err)
	}
}

func TestUpdatecertsTwice(t *testing.T) {
	n := newNode(t)
	n.start()
	run := func(args ...string) string {
		cmd := exec.Command("/proc/self/exe", append([]string{"pvecm", "updatecerts", "--mount", n.dir, "--node", "n1"}, args...)...)
		cmd.Env = append(os.Environ(), asDaemon+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	run()
	for name, mode := range map[string]os.FileMode{
		"pve-root-ca.pem": 0o640, "priv/pve-root-ca.key": 0o600, "nodes/n1/pve-ssl.pem": 0o640, "nodes/n1/pve-ssl.key": 0o640,
		"pve-www.key": 0o640, "authkey.pub": 0o640, "priv/authkey.key": 0o600,
	} {
		if st, err := os.Stat(n.path(name)); err != nil || st.Size() == 0 || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if out, err := exec.Command("openssl", "verify", "-CAfile", n.path("pve-root-ca.pem"), n.path("nodes/n1/pve-ssl.pem")).CombinedOutput(); err != nil && !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("openssl verify: %v: %s", err, out)
	}
	if out := run(); out != "" {
		t.Errorf("a second run did something: %s", out)
	}
}
