package qm

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const appliance = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><References><File id="f" href="disk.vmdk"/></References>
<DiskSection><Disk diskId="d" fileRef="f" capacity="4194304"/></DiskSection>
<VirtualSystem id="box"><Name>box</Name><VirtualHardwareSection>
<Item><ResourceType>3</ResourceType><VirtualQuantity>2</VirtualQuantity></Item>
<Item><InstanceID>7</InstanceID><ResourceType>6</ResourceType><Address>0</Address></Item>
<Item><ResourceType>17</ResourceType><HostResource>ovf:/disk/d</HostResource><Parent>7</Parent><AddressOnParent>0</AddressOnParent></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>`

// pack makes an archive of an appliance, whose disk is not its first file.
func pack(t *testing.T, path string, disk []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		content []byte
	}{{"box.ovf", []byte(appliance)}, {"other.mf", []byte("sums")}, {"disk.vmdk", disk}} {
		must(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}))
		_, err := w.Write(f.content)
		must(t, err)
	}
	must(t, w.Close())
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
}

func convert(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", append([]string{"convert"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestImport makes VMs of an appliance, of its manifest and of images, by volume
// and by path, and compares what is on their disks.
func TestImport(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	p, dir := newPlace(t), t.TempDir()
	storages, err := os.ReadFile(filepath.Join(p.Tree, "storage.cfg"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.Tree, "storage.cfg"), fmt.Appendf(storages, "\ndir: depot\n\tpath %s\n\tcontent import\n", dir), 0o644))
	depot := filepath.Join(dir, "import")
	must(t, os.MkdirAll(depot, 0o755))
	raw := filepath.Join(dir, "raw")
	content := bytes.Repeat([]byte(fmt.Sprintf("%-512s", "appliance")), 8192)
	must(t, os.WriteFile(raw, content, 0o644))
	convert(t, "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, filepath.Join(depot, "disk.vmdk"))
	convert(t, "-f", "raw", "-O", "qcow2", raw, filepath.Join(depot, "disk.qcow2"))
	disk, err := os.ReadFile(filepath.Join(depot, "disk.vmdk"))
	must(t, err)
	pack(t, filepath.Join(depot, "box.ova"), disk)
	must(t, os.WriteFile(filepath.Join(depot, "box.ovf"), []byte(appliance), 0o644))

	for i, c := range []struct{ source, more, want string }{
		{"depot:import/box.ova", "", "scsi0: local:400/vm-400-disk-0.raw,size=4M\n"},
		{filepath.Join(depot, "box.ova"), "--format qcow2 --name mine", "name: mine\n"},
		{"depot:import/box.ovf", "--delete name,cores --memory 64", "memory: 64\n"},
		{"depot:import/disk.qcow2", "--cores 3", "cores: 3\n"},
	} {
		vmid := 400 + i
		if got := p.qm(t, fmt.Sprintf("import %d %s --storage local %s", vmid, c.source, c.more)); !strings.HasSuffix(got, "\n0") {
			t.Fatalf("%s: %s", c.source, got)
		}
		if got := p.qm(t, fmt.Sprintf("config %d", vmid)); !strings.Contains(got, c.want) || strings.Contains(c.more, "--delete name") && strings.Contains(got, "name: ") {
			t.Errorf("%s: %s", c.source, got)
		}
		made, err := filepath.Glob(filepath.Join(storagePath(t, p), fmt.Sprintf("images/%d/*", vmid)))
		must(t, err)
		copied := filepath.Join(t.TempDir(), "copied")
		convert(t, "-O", "raw", made[0], copied)
		if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: the disk is another one (%v)", c.source, err)
		}
	}
}

// storagePath returns where the storage "local" keeps its files.
func storagePath(t *testing.T, p Place) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Tree, "storage.cfg"))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "dir: local\n\tpath ")
	path, _, _ := strings.Cut(rest, "\n")
	return path
}

// TestImportTakesNothingFromElsewhere refuses images that name other files.
func TestImportTakesNothingFromElsewhere(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	p, dir := newPlace(t), t.TempDir()
	make := func(args ...string) {
		t.Helper()
		cmd := exec.Command("qemu-img", append([]string{"create", "-q", "-f", "qcow2"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	make("base.qcow2", "1M")
	make("-b", "base.qcow2", "-F", "qcow2", "above.qcow2")
	make("-o", "data_file=data", "outside.qcow2", "1M")
	pack(t, filepath.Join(dir, "empty.ova"), nil)
	must(t, os.Symlink("base.qcow2", filepath.Join(dir, "link.qcow2")))
	for source, want := range map[string]string{
		dir + "/above.qcow2":     "stands on another image, 'base.qcow2'",
		dir + "/outside.qcow2":   "its content is in another file",
		dir + "/link.qcow2":      "is no file",
		dir + "/empty.ova":       "not in the format that the name says",
		dir + "/none.ova":        "no such file",
		dir + "/x.zip":           "no such file",
		"local:400/a.raw":        "is a volume of content 'images', not import",
		"nowhere:import/box.ova": "storage 'nowhere' does not exist",
		"local:import/box.ova":   "does not support content-type 'import'",
	} {
		if got := p.qm(t, "import 400 "+source+" --storage local"); !strings.Contains(got, want) || !strings.HasSuffix(got, "255") {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	p := newPlace(t)
	for line, want := range map[string]string{
		"enroll-efi-keys 100":           "VM 100 has no EFI disk\n255",
		"enroll-efi-keys 101":           "VM is locked (backup)\n255",
		"migrate 100 n1":                "target is local node.\n255",
		"migrate 101 n2":                "VM is locked (backup)\n255",
		"import 400 /x --storage store": "open /x: no such file or directory\n255",
		"remote-migrate 100 500 host=1.2.3.4,apitoken=a --target-bridge 1 --target-storage 1": "VM 100 stays: other clusters are reached through their API only, which is not spoken here\n255",
	} {
		if got := p.qm(t, line); got != want {
			t.Errorf("qm %s: %q, want %q", line, got, want)
		}
	}
}
