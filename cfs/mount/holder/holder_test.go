package holder

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func fileOf(t *testing.T, f *os.File) File {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		t.Fatal(err)
	}
	return File{Device: s.Dev, Inodes: []uint64{s.Ino}}
}

func TestWhoHoldsAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	at := fileOf(t, f)
	self := uint32(os.Getpid())
	if !at.HeldBy(self) {
		t.Error("an open file is not held")
	}
	if at.IsHeld() {
		t.Error("a file is held that the next program will not have")
	}
	other := at
	other.Inodes = []uint64{at.Inodes[0] + 1}
	if other.HeldBy(self) {
		t.Error("a file is held that nobody has opened")
	}
	other = at
	other.Device++
	if other.HeldBy(self) {
		t.Error("the same number on another file system is taken for the file")
	}
	child := exec.Command("sleep", "60")
	child.Stdout = f
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	again, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	f.Close()
	twice := at
	twice.Others = []uint32{uint32(unix.Gettid()), uint32(child.Process.Pid) + 1<<20}
	if !at.HeldBy(self) || twice.HeldBy(self) {
		t.Error("what was opened again is taken for what was closed")
	}
	if copied, err := unix.Dup(int(again.Fd())); err != nil || !twice.HeldBy(self) {
		t.Error("a copy is not seen beside what was opened again", err)
	} else {
		unix.Close(copied)
	}
	again.Close()
	if at.HeldBy(self) || !at.HeldBy(uint32(child.Process.Pid)) || !at.IsHeld() {
		t.Error("only the child holds the file now")
	}
	child.Process.Kill()
	child.Wait()
	if at.IsHeld() {
		t.Error("nobody holds the file now")
	}
}

// A file of another namespace may have the same number on another file system.
func TestAnotherNamespacesFilesAreToldApart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a namespace")
	}
	dir := t.TempDir()
	child := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none "$0" && exec 1>"$0/f" && echo done >&2 && exec sleep 60`, dir)
	said, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	line := make([]byte, len("done\n"))
	if _, err := io.ReadFull(said, line); err != nil || string(line) != "done\n" {
		t.Fatalf("%q, %v", line, err)
	}
	pid := uint32(child.Process.Pid)
	var s unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s/f", pid, dir), &s); err != nil {
		t.Fatal(err)
	}
	if at := (File{Device: s.Dev, Inodes: []uint64{s.Ino}}); !at.HeldBy(pid) {
		t.Error("a file of another namespace is not held")
	}
	if at := (File{Device: s.Dev + 1, Inodes: []uint64{s.Ino}}); at.HeldBy(pid) {
		t.Error("a file of another namespace with the same number is taken for the file")
	}
}

func TestReadersDoNotHold(t *testing.T) {
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fileOf(t, f).HeldBy(uint32(os.Getpid())) {
		t.Error("an open for reading counts")
	}
}

func TestADescription(t *testing.T) {
	for text, want := range map[string]description{
		"pos:\t0\nflags:\t0100001\nmnt_id:\t27\nino:\t9978722\n":           {0o100001, 27, 9978722},
		"pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t1\neventfd-count: 0\n":     {2, 9, 1},
		"pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t18446744073709551615\nx\n": {2, 9, 1<<64 - 1},
	} {
		if got, ok := parse([]byte(text)); !ok || got != want {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "flags:\t02\n", "flags:\tx\nmnt_id:\t1\nino:\t1\n"} {
		if got, ok := parse([]byte(text)); ok {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	if _, err := parseDevice("8"); err == nil {
		t.Error("a device without a minor number was read")
	}
}

// BenchmarkHeldBy is part of each close of a written file.
func BenchmarkHeldBy(b *testing.B) {
	at := File{Inodes: []uint64{1 << 62}}
	for b.Loop() {
		at.HeldBy(uint32(os.Getpid()))
	}
}
