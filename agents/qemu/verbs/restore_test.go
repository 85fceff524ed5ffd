package verbs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/qemu/vma/vmatest"
)

// archived is the configuration in an archive.
const archived = `#backed up
boot: order=scsi0
efidisk0: local:100/vm-100-disk-1.qcow2,efitype=4m,size=528K
ide2: local:100/vm-100-cloudinit.qcow2,media=cdrom
lock: backup
memory: 32
name: web
net0: virtio=BC:24:11:00:00:01
parent: before
scsi0: local:100/vm-100-disk-0.qcow2,cache=none,size=2M
scsi1: local:100/vm-100-disk-2.raw,backup=0,size=1G
smbios1: uuid=6e9d7c5e-0001-4000-8000-000000000000
unused0: local:100/vm-100-disk-9.raw
vmgenid: 6e9d7c5e-0002-4000-8000-000000000000
#qmdump#map:efidisk0:drive-efidisk0:local:qcow2:
#qmdump#map:scsi0:drive-scsi0:gone:qcow2:
`

// makeArchive returns the path of an archive of VM 100, whose scsi0 begins with a word.
func (n *node) makeArchive(word string) string {
	n.Helper()
	disk := make([]byte, 2<<20)
	copy(disk, bytes.Repeat([]byte{word[0]}, 512))
	copy(disk[1<<20:], "in the middle")
	path := filepath.Join(n.TempDir(), "vzdump-qemu-100-2026_11_20-03_00_00.vma")
	files := map[string]string{"qemu-server.conf": archived, "qemu-server.fw": "[OPTIONS]\nenable: 1\n"}
	archive := vmatest.Make(files, vmatest.Disk{Name: "drive-efidisk0", Content: make([]byte, 528<<10)}, vmatest.Disk{Name: "drive-scsi0", Content: disk})
	n.must(os.WriteFile(path, archive, 0o644))
	return path
}

func TestRestoreMakesWhatWasBackedUp(t *testing.T) {
	n := newNode(t)
	plain := n.makeArchive("one")
	n.must(exec.Command("gzip", "--keep", plain).Run())
	packed := plain + ".gz"
	if _, err := n.task(Restore, 100, "archive", packed); err == nil || !strings.Contains(err.Error(), "storage 'gone' does not exist") {
		t.Errorf("%v", err)
	}
	n.volumes("local", 100)
	log := n.do(Restore, 100, "archive", packed, "storage", "local", "name", "other")
	if !strings.Contains(log, "map 'drive-scsi0' to 'local:100/vm-100-disk-1.qcow2'\n") {
		t.Errorf("log %q", log)
	}
	n.has(100, "scsi0: local:100/vm-100-disk-1.qcow2,cache=none,size=2M\n", "efidisk0: local:100/vm-100-disk-0.qcow2,efitype=4m,size=528K\n", "ide2: local:100/vm-100-cloudinit.qcow2,media=cdrom\n",
		"name: other\n", "net0: virtio=BC:24:11:00:00:01", "smbios1: uuid=6e9d7c5e-0001", "!vmgenid: 6e9d7c5e", "vmgenid: ", "!lock:", "!parent:", "!unused0:", "!scsi1:")
	n.reads("local:100/vm-100-disk-1.qcow2", "one")
	if text, err := os.ReadFile(filepath.Join(n.Tree, "firewall/100.fw")); string(text) != "[OPTIONS]\nenable: 1\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	n.refuse("unable to restore VM 100 - VM 100 already exists on node 'n1'", Restore, 100, "archive", plain)
	n.do(Restore, 101, "archive", plain, "storage", "other", "unique", "1", "start", "1")
	n.has(101, "scsi0: other:101/vm-101-disk-1.qcow2,cache=none,size=2M\n", "!net0: virtio=BC:24:11:00:00:01", "!smbios1: uuid=6e9d7c5e")
	n.status(101, "running")
	n.refuse("unable to restore VM 101 - vm is running", Restore, 101, "archive", plain, "storage", "other", "force", "1")
}

// TestRestoreUnpacksEveryCompression that Proxmox VE makes, and refuses what was
// cut off.
func TestRestoreUnpacksEveryCompression(t *testing.T) {
	n := newNode(t)
	plain := n.makeArchive("one")
	for i, c := range []struct{ program, extension string }{{"gzip", ".gz"}, {"zstd", ".zst"}, {"lzop", ".lzo"}} {
		if _, err := exec.LookPath(c.program); err != nil {
			t.Fatal(err, "; it is in the list of contrib/setup")
		}
		// The name says nothing: the beginning of the file does.
		packed, err := exec.Command(c.program, "-c", plain).Output()
		n.must(err)
		name := filepath.Join(t.TempDir(), "archive"+c.extension)
		n.must(os.WriteFile(name, packed, 0o644))
		vmid := uint32(100 + i)
		n.do(Restore, vmid, "archive", name, "storage", "local")
		n.has(vmid, "name: web\n", "!lock:")
		n.reads(fmt.Sprintf("local:%d/vm-%d-disk-1.qcow2", vmid, vmid), "one")

		n.must(os.WriteFile(name, packed[:len(packed)-200], 0o644))
		if log, err := n.task(Restore, 200, "archive", name, "storage", "local"); err == nil || n.conf(200) != "" {
			t.Errorf("%s that was cut off: %v\n%s", c.program, err, log)
		}
		n.volumes("local", 200)
	}
}

// TestRestoreReplacesOnlyByWhatIsComplete restores over a VM that exists, from
// archives of which the first ends early.
func TestRestoreReplacesOnlyByWhatIsComplete(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("name", "old", "scsi0", "local:0.125")...)
	n.fillDisk("local:100/vm-100-disk-0.raw", "two")
	before := n.conf(100)
	whole := n.makeArchive("one")
	content, err := os.ReadFile(whole)
	n.must(err)
	broken := whole + ".part"
	n.must(os.WriteFile(broken, content[:len(content)-4096], 0o644))
	n.refuse("unable to restore VM 100 - VM 100 already exists on node 'n1'", Restore, 100, "archive", whole, "storage", "local")
	if _, err := n.task(Restore, 100, "archive", broken, "storage", "local", "force", "1"); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("%v", err)
	}
	if now := n.conf(100); now != before {
		t.Errorf("the VM is\n%swas\n%s", now, before)
	}
	n.volumes("local", 100, "100/vm-100-disk-0.raw")
	n.reads("local:100/vm-100-disk-0.raw", "two")
	n.do(Configure, 100, "protection", "1")
	n.refuse("unable to restore VM 100 - protection mode enabled", Restore, 100, "archive", whole, "storage", "local", "force", "1")
	n.do(Configure, 100, "delete", "protection")
	n.do(Restore, 100, "archive", whole, "storage", "local", "force", "1")
	n.has(100, "name: web\n", "!lock:", "scsi0: local:100/vm-100-disk-2.qcow2,cache=none,size=2M\n")
	n.volumes("local", 100, "100/vm-100-cloudinit.qcow2", "100/vm-100-disk-1.qcow2", "100/vm-100-disk-2.qcow2")
	n.reads("local:100/vm-100-disk-2.qcow2", "one")
}

// TestKilledRestoreLeavesWhatWasThere kills the agents while disks are being filled,
// of a VM that is new and of one that is to be replaced.
func TestKilledRestoreLeavesWhatWasThere(t *testing.T) {
	for _, force := range []string{"0", "1"} {
		n := newNode(t)
		n.end()
		kill := n.spawn()
		if force == "1" {
			n.do(Create, 100, blank("name", "old", "scsi0", "local:0.125")...)
		}
		before := n.conf(100)
		n.drop(Restore, 100, "archive", n.makeArchive("one"), "storage", "local", "force", force, "bwlimit", "1")
		n.until("a volume", func() bool {
			return strings.Contains(n.claimed(Restore), "drive-scsi0") || strings.Count(n.claimed(Restore), "vm-100-disk-") > 1
		})
		kill()
		n.spawn()
		n.until("the end of the task", func() bool { return strings.Contains(n.claimed(Restore), "\nstatus: ") })
		if now := n.conf(100); now != before {
			t.Errorf("the VM is\n%swas\n%s", now, before)
		}
		if force == "1" {
			n.volumes("local", 100, "100/vm-100-disk-0.raw")
		} else {
			n.volumes("local", 100)
		}
	}
}
