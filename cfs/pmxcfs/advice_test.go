package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAFirstStartThatFails makes the mistakes of new users: each gets one line,
// and it says what to do.
func TestAFirstStartThatFails(t *testing.T) {
	for _, m := range []struct {
		name    string
		prepare func(t *testing.T, n *node)
		args    []string
		want    string
	}{
		{name: "read-only disk", prepare: disk("", unix.MS_RDONLY), want: "name another by --db"},
		{name: "full disk", prepare: fullDisk, want: "make room"},
		{name: "not a database", prepare: garbage, want: "put a backup in its place"},
		{name: "a name that leads elsewhere", args: []string{"--node", "../n1"}, want: `"../n1" has more than letters`},
		{name: "a name with a line below", args: []string{"--node", "my_host"}, want: "change the host name"},
		{name: "something in the way", prepare: inTheWay, want: "mounting would hide what is there"},
	} {
		for _, mode := range []string{"foreground", "background"} {
			t.Run(m.name+"/"+mode, func(t *testing.T) {
				n := newNode(t)
				if m.prepare != nil {
					m.prepare(t, n)
				}
				cmd := n.command()
				cmd.Args = append(cmd.Args, m.args...)
				if mode == "foreground" {
					cmd.Args = append(cmd.Args, "-f")
				}
				n.isOneLine(cmd, m.want)
			})
		}
	}
}

// isOneLine runs a command that must fail with one line that has a text in it.
func (n *node) isOneLine(cmd *exec.Cmd, want string) {
	n.t.Helper()
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err == nil || !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
		n.t.Errorf("%v, and said %q instead of a line with %q", err, text, want)
	}
	if n.isMounted() {
		n.t.Error("failed, and has mounted")
	}
}

// disk puts the database on a file system of its own.
func disk(options string, flags uintptr) func(t *testing.T, n *node) {
	return func(t *testing.T, n *node) {
		t.Helper()
		dir := filepath.Dir(n.db)
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
			t.Skip("cannot mount a tmpfs: ", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	}
}

func fullDisk(t *testing.T, n *node) {
	t.Helper()
	disk("size=64k", 0)(t, n)
	_ = os.WriteFile(filepath.Join(filepath.Dir(n.db), "filler"), make([]byte, 1<<17), 0o600)
}

func garbage(t *testing.T, n *node) {
	t.Helper()
	if err := os.WriteFile(n.db, []byte(strings.Repeat("no SQLite ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inTheWay(t *testing.T, n *node) {
	t.Helper()
	if err := os.WriteFile(n.path("mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyRootStartsIt(t *testing.T) {
	n := newNode(t)
	cmd := n.command("-f")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The binary of a test lies where only its owner can enter.
	open := filepath.Join(os.TempDir(), filepath.Base(t.TempDir())+"-pmxcfs-test")
	if err := copyFile(exe, open); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(open) })
	cmd.Path, cmd.Dir = open, "/"
	n.isOneLine(cmd, "needs root")
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// TestPathsAreThoseOfTheCaller starts a daemon in the background by relative
// paths.
func TestPathsAreThoseOfTheCaller(t *testing.T) {
	n := newNode(t)
	cmd := n.command()
	cmd.Dir = filepath.Dir(n.db)
	cmd.Args = append(cmd.Args, "--mount", "here", "--db", "it.db")
	n.dir, n.db = filepath.Join(cmd.Dir, "here"), filepath.Join(cmd.Dir, "it.db")
	if out, err := cmd.CombinedOutput(); err != nil || !n.isMounted() {
		t.Fatalf("%v: %s", err, out)
	}
	if err := unix.Unmount(n.dir, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
	n.awaitClosed()
}
