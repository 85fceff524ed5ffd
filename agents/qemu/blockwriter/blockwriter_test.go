package blockwriter

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host"
)

func TestVolumesOfAnyFormatAreWritten(t *testing.T) {
	for _, program := range []string{"qemu-img", "qemu-nbd", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for _, format := range []string{"raw", "qcow2", "vmdk"} {
		t.Run(format, func(t *testing.T) {
			sockets := t.TempDir()
			t.Setenv("TMPDIR", sockets)
			path := filepath.Join(t.TempDir(), "disk")
			run := func(argv ...string) string {
				t.Helper()
				out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
				if err != nil {
					t.Fatalf("%q: %v: %s", argv, err, out)
				}
				return string(out)
			}
			run("qemu-img", "create", "-q", "-f", format, path, "1M")
			w, err := Open(t.Context(), host.System{}, "driver="+format+",file.driver=file,file.filename="+path)
			if err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(sockets); err != nil || len(left) > 0 {
				t.Errorf("a program that is killed now leaves %v, %v", left, err)
			}
			if _, err := w.WriteAt([]byte(strings.Repeat("a", 4096)), 65536); err != nil {
				t.Error(err)
			}
			if _, err := w.WriteAt(make([]byte, 4096), 1<<20); err == nil {
				t.Error("what lies outside was written")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if said := run("qemu-io", "-r", "-f", format, "-c", "read -P 97 65536 4096", "-c", "read -P 0 0 65536", path); strings.Contains(said, "failed") {
				t.Error(said)
			}
		})
	}
}

func TestVolumesThatCannotBeOpened(t *testing.T) {
	if _, err := exec.LookPath("qemu-nbd"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if _, err := Open(t.Context(), host.System{}, "driver=raw,file.driver=file,file.filename=/no/such/file"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
