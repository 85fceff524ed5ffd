package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestReadsWhatQemuWrites(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, format := range []string{"raw", "qcow2", "vmdk"} {
		base, top := filepath.Join(dir, "base."+format), filepath.Join(dir, "top."+format)
		create(t, "create", "-f", format, base, "5M")
		if got, err := Read(base, format); err != nil || got != (Info{Size: 5 << 20}) {
			t.Errorf("%s: %+v, %v", format, got, err)
		}
		if format == "raw" {
			continue
		}
		create(t, "create", "-f", format, "-F", format, "-b", "base."+format, top)
		if got, err := Read(top, format); err != nil || got != (Info{Size: 5 << 20, Backing: "base." + format}) {
			t.Errorf("%s: %+v, %v", format, got, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "base.raw"), "qcow2"); !errors.Is(err, ErrFormat) {
		t.Errorf("raw image as qcow2: %v", err)
	}
}

func create(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x01\x00\x00\x00\x10\x00\x00\x00\x00\x00\x50\x00\x00x"))
	f.Add([]byte("KDMV\x01\x00\x00\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"qcow2", "vmdk"} {
			if info, err := Read(path, format); err == nil && info.Size < 0 {
				t.Errorf("size %d", info.Size)
			}
		}
	})
}
