package btrfs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/plugins/storage/btrfs"
)

// newStorage makes a Btrfs file system in a file and mounts it.
func newStorage(t *testing.T, id string) (btrfs.Plugin, *storage.Config) {
	t.Helper()
	for _, program := range []string{"mkfs.btrfs", "btrfs", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := t.TempDir()
	file, path := filepath.Join(root, "disk"), filepath.Join(root, "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err == nil {
		err = f.Truncate(256 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.btrfs", "-q", file).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, path).CombinedOutput(); err != nil {
		t.Skipf("Btrfs is not on this machine: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return btrfs.New(host.System{}), &storage.Config{ID: id, Type: "btrfs", Values: map[string]string{"path": path, "content": "images,iso"}}
}

// firstByte is a function of a volume's first byte: of an image, or of a file
// below a directory.
func firstByte(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		return filepath.Join(path, "file")
	}
	return path
}

func write(t *testing.T, path string, content byte) {
	t.Helper()
	f, err := os.OpenFile(firstByte(t, path), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{content}, 0)
	if e := f.Close(); err != nil || e != nil {
		t.Fatal(err, e)
	}
}

func read(t *testing.T, path string) byte {
	t.Helper()
	f, err := os.Open(firstByte(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := make([]byte, 1)
	if _, err := f.ReadAt(first, 0); err != nil {
		t.Fatal(err)
	}
	return first[0]
}

func TestConforms(t *testing.T) {
	p, c := newStorage(t, "fs")
	for _, format := range []string{"raw", "subvol"} {
		t.Run(format, func(t *testing.T) {
			storagetest.Run(t, storagetest.Subject{Plugin: p, Config: c, Format: format, Limit: format == "raw", Apart: true,
				Write: write, Read: read, How: "real"})
		})
	}
}

// must returns a volume, and fails the test on an error.
func must(t *testing.T, p btrfs.Plugin, name string, err error) storage.Volume {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestStatesTravelOneAfterTheOther(t *testing.T) {
	p, from := newStorage(t, "from")
	_, to := newStorage(t, "to")
	for _, c := range []*storage.Config{from, to} {
		if err := p.Activate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	name, err := p.Alloc(t.Context(), from, storage.Request{VMID: 100, Format: "raw", Bytes: 1 << 20})
	v := must(t, p, name, err)
	path, err := p.Path(from, v, "")
	if err != nil {
		t.Fatal(err)
	}
	send := func(s storage.Stream) error {
		var text bytes.Buffer
		if err := p.Export(t.Context(), from, v, s, &text); err != nil {
			t.Fatal(err)
		}
		return p.Import(t.Context(), to, v, s, &text)
	}
	for i, s := range []storage.Stream{{Format: "btrfs", Snapshot: "one"}, {Format: "btrfs", Snapshot: "two", Base: "one"}} {
		write(t, path, byte(i+1))
		if err := p.Snapshot(t.Context(), from, v, s.Snapshot); err != nil {
			t.Fatal(err)
		}
		if err := send(s); err != nil {
			t.Fatal(err)
		}
	}
	for snapshot, want := range map[string]byte{"": 2, "one": 1, "two": 2} {
		path, err := p.Path(to, v, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != want {
			t.Errorf("state %q has %d; want %d", snapshot, got, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(filepath.Dir(path)))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestOtherFileSystemIsRefused(t *testing.T) {
	c := &storage.Config{ID: "fs", Type: "btrfs", Values: map[string]string{"path": "/dev/shm/btrfs-test-" + filepath.Base(t.TempDir())}}
	t.Cleanup(func() { _ = os.RemoveAll(c.Path()) })
	if err := btrfs.New(host.System{}).Activate(t.Context(), c); err == nil {
		t.Error("activated")
	}
}
