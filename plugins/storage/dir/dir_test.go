package dir_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/plugins/storage/dir"
)

func newStorage(t *testing.T, settings ...string) (dir.Plugin, *storage.Config) {
	t.Helper()
	c := &storage.Config{ID: "files", Type: "dir", Values: map[string]string{"path": filepath.Join(t.TempDir(), "files"), "content": "images,backup,iso"}}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		c.Values[key] = value
	}
	return dir.Plugin{Run: host.System{}}, c
}

// mismatch is what qemu-io says of other content than expected.
const mismatch = "Pattern verification failed"

// ioOf returns functions that change and returns the first byte of an image, or of a file below a
// directory.
func ioOf(format string) (write func(*testing.T, string, byte), read func(*testing.T, string) byte) {
	command := func(t *testing.T, path, verb string) string {
		t.Helper()
		out, err := exec.Command("qemu-io", "-f", format, "-c", verb, path).CombinedOutput()
		if err != nil && !strings.Contains(string(out), mismatch) {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	write = func(t *testing.T, path string, content byte) {
		command(t, path, "write -P "+itoa(uint32(content))+" 0 4k")
	}
	read = func(t *testing.T, path string) byte {
		for content := range byte(16) {
			if !strings.Contains(command(t, path, "read -P "+itoa(uint32(content))+" 0 4k"), mismatch) {
				return content
			}
		}
		return 255
	}
	return write, read
}

func TestConforms(t *testing.T) {
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for _, format := range []string{"raw", "qcow2", "vmdk"} {
		t.Run(format, func(t *testing.T) {
			p, c := newStorage(t)
			write, read := ioOf(format)
			storagetest.Run(t, storagetest.Subject{Plugin: p, Config: c, Format: format, Limit: true, Fixed: format == "vmdk", Write: write, Read: read, How: "real"})
		})
	}
	t.Run("qcow2 chain", func(t *testing.T) {
		p, c := newStorage(t, "snapshot-as-volume-chain=1")
		write, read := ioOf("qcow2")
		storagetest.Run(t, storagetest.Subject{Plugin: p, Config: c, Format: "qcow2", Limit: true, Write: write, Read: read, How: "real"})
	})
	t.Run("subvol", func(t *testing.T) {
		p, c := newStorage(t)
		storagetest.Run(t, storagetest.Subject{Plugin: p, Config: c, Format: "subvol", Write: writeFile, Read: readFile, How: "real"})
	})
}

func writeFile(t *testing.T, path string, content byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path, "file"), []byte{content}, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path, "file"))
	if err != nil || len(text) != 1 {
		t.Fatalf("%q, %v", text, err)
	}
	return text[0]
}

func TestUnmountedMountpointIsRefused(t *testing.T) {
	p, c := newStorage(t, "is_mountpoint=yes")
	if err := os.Mkdir(c.Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Activate(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Errorf("activate: %v", err)
	}
	if _, err := p.Status(t.Context(), c); err == nil {
		t.Error("a status of the file system below")
	}
	if entries, _ := os.ReadDir(c.Path()); len(entries) > 0 {
		t.Errorf("created below the mount point: %v", entries)
	}
}

func TestDirectoriesAreNotCreatedUnasked(t *testing.T) {
	for _, setting := range []string{"mkdir=0", "create-base-path=0"} {
		p, c := newStorage(t, setting)
		if err := p.Activate(t.Context(), c); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("%s: %v", setting, err)
		}
	}
	p, c := newStorage(t, "create-subdirs=0")
	if err := p.Activate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(c.Path()); len(entries) > 0 {
		t.Errorf("created: %v", entries)
	}
}

func TestBackupTakesItsFilesAlong(t *testing.T) {
	p, c := newStorage(t)
	const name = "vzdump-qemu-100-2024_01_02-03_04_05"
	dump := filepath.Join(c.Path(), "dump")
	for _, file := range []string{name + ".vma.zst", name + ".vma.zst.notes", name + ".log", name + ".vma.zst.protected"} {
		place(t, filepath.Join(dump, file), false, "")
	}
	v, err := p.Parse("backup/" + name + ".vma.zst")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Free(t.Context(), c, v); err == nil || !strings.Contains(err.Error(), "protected") {
		t.Errorf("protected backup: %v", err)
	}
	if err := os.Remove(filepath.Join(dump, name+".vma.zst.protected")); err != nil {
		t.Fatal(err)
	}
	if err := p.Free(t.Context(), c, v); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dump); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestListingShowsWhatNamesAndFilesSay(t *testing.T) {
	p, c := newStorage(t)
	root := c.Path()
	for _, file := range []string{"dump/vzdump-lxc-300-2024_01_02-03_04_05.tar.zst", "dump/mine-200-x.tgz", "dump/.hidden.tar", "dump/readme",
		"template/iso/A.ISO", "template/iso/x.txt", "template/cache/d.tar.xz", "images/100/broken.qcow2"} {
		place(t, filepath.Join(root, file), false, "")
	}
	place(t, filepath.Join(root, "images/100/dir.raw"), true, "")
	var got []string
	for _, content := range []string{"backup", "iso", "vztmpl", "images"} {
		all, err := p.List(t.Context(), c, storage.Query{Content: content})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			got = append(got, i.Name+" "+i.Format+" "+i.Subtype+" "+itoa(i.VMID))
		}
	}
	want := "backup/mine-200-x.tgz tgz unknown 200\nbackup/vzdump-lxc-300-2024_01_02-03_04_05.tar.zst tar.zst lxc 300\n" +
		"iso/A.ISO iso  0\nvztmpl/d.tar.xz txz  0\n100/broken.qcow2 qcow2  100"
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
