package holder

import (
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
	if !at.HeldBy(self) || !at.IsHeld() {
		t.Error("an open file is not held")
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
	f.Close()
	if at.HeldBy(self) || !at.HeldBy(uint32(child.Process.Pid)) || !at.IsHeld() {
		t.Error("only the child holds the file now")
	}
	child.Process.Kill()
	child.Wait()
	if at.IsHeld() {
		t.Error("nobody holds the file now")
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
