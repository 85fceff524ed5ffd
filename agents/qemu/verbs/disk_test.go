package verbs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blank is a guest without a system, which starts at once.
func blank(more ...string) []string {
	return append([]string{"memory", "32", "vga", "none", "tablet", "0", "balloon", "0", "scsihw", "virtio-scsi-pci"}, more...)
}

// fillDisk writes a word into the first sector of a raw or qcow2 volume.
func (n *node) fillDisk(volume, word string) {
	n.Helper()
	path, err := n.Catalog.Path(volume)
	n.must(err)
	out, err := exec.Command("qemu-io", "-f", strings.TrimPrefix(filepath.Ext(path), "."), "-c", fmt.Sprintf("write -P %d 0 512", word[0]), path).CombinedOutput()
	if err != nil {
		n.Fatalf("%v: %s", err, out)
	}
}

// reads requires the first sector of a volume to be filled with a word's first letter.
func (n *node) reads(volume, word string) {
	n.Helper()
	path, err := n.Catalog.Path(volume)
	n.must(err)
	out, err := exec.Command("qemu-io", "-U", "-r", "-f", strings.TrimPrefix(filepath.Ext(path), "."), "-c", fmt.Sprintf("read -P %d 0 512", word[0]), path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		n.Errorf("%s does not hold %q: %v: %s", volume, word, err, out)
	}
}

// volumes requires the volumes of a VM on a storage.
func (n *node) volumes(storage string, vmid uint32, want ...string) {
	n.Helper()
	all, err := n.Catalog.List(n.Context(), storage, "images", vmid)
	n.must(err)
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		n.Errorf("%s has %v of %d, want %v", storage, names, vmid, want)
	}
}

func TestCreateMakesVolumesAndDestroyRemovesThem(t *testing.T) {
	n := newNode(t)
	log := n.do(Create, 100, blank("name", "web", "scsi0", "local:1", "scsi1", "other:0.5,format=qcow2,ssd=1", "net0", "virtio,bridge=vmbr0",
		"ide2", "none,media=cdrom", "efidisk0", "local:1,efitype=4m")...)
	if want := "scsi0: successfully created disk 'local:100/vm-100-disk-1.raw,size=1G'\n"; !strings.Contains(log, want) {
		t.Errorf("log %q, want %q", log, want)
	}
	n.has(100, "scsi0: local:100/vm-100-disk-1.raw,size=1G\n", "scsi1: other:100/vm-100-disk-0.qcow2,size=512M,ssd=1\n", "ide2: none,media=cdrom\n",
		"net0: virtio=BC:24:11:", "smbios1: uuid=", "vmgenid: ", "meta: ctime=", "efidisk0: local:100/vm-100-disk-0.raw,efitype=4m,size=528K\n", "!lock:")
	n.refuse("unable to create VM 100 - VM 100 already exists on node 'n1'", Create, 100)
	n.fillDisk("local:100/vm-100-disk-1.raw", "one")
	n.do(Create, 101, blank("virtio0", "other:0,import-from=local:100/vm-100-disk-1.raw,format=qcow2")...)
	n.has(101, "virtio0: other:101/vm-101-disk-0.qcow2,size=1G\n")
	n.reads("other:101/vm-101-disk-0.qcow2", "one")
	// What cannot be completed leaves nothing.
	if _, err := n.task(Create, 102, blank("scsi0", "local:1", "scsi1", "nowhere:1")...); err == nil || n.conf(102) != "" {
		t.Errorf("%v, %q", err, n.conf(102))
	}
	n.volumes("local", 102)
	n.do(Configure, 100, "protection", "1")
	n.refuse("can't remove VM 100 - protection mode enabled", Destroy, 100)
	n.do(Configure, 100, "delete", "protection")
	stray := n.disk(100, "raw")
	n.do(Destroy, 100)
	n.volumes("local", 100, strings.TrimPrefix(stray, "local:"))
	n.volumes("other", 100)
	n.do(Destroy, 101)
	if n.conf(100)+n.conf(101) != "" {
		t.Error("configurations are left")
	}
}

func TestDestroyPurges(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("scsi0", "local:1")...)
	n.must(os.MkdirAll(filepath.Join(n.Tree, "ha"), 0o755))
	n.must(n.Place.Write(n.Context(), "ha/resources.cfg", "vm: 100\n\tstate stopped\n\nvm: 101\n\tstate started\n"))
	n.must(n.Place.Write(n.Context(), "ha/rules.cfg", "node-affinity: a\n\tnodes n1\n\tresources vm:100\n\nresource-affinity: b\n\tresources vm:100,vm:101\n"))
	n.must(n.Place.Write(n.Context(), "jobs.cfg", "vzdump: x\n\tvmid 100,101\n"))
	n.disk(100, "qcow2")
	n.refuse("unable to remove VM 100 - used in HA resources and purge parameter not set", Destroy, 100)
	n.do(Destroy, 100, "purge", "1", "destroy-unreferenced-disks", "1")
	n.volumes("local", 100)
	for file, want := range map[string]string{
		"ha/resources.cfg": "vm: 101\n\tstate started\n",
		"ha/rules.cfg":     "resource-affinity: b\n\tresources vm:101\n",
		"jobs.cfg":         "vzdump: x\n\tvmid 101\n",
	} {
		if text, err := os.ReadFile(filepath.Join(n.Tree, file)); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", file, text, err, want)
		}
	}
}

func TestDisksMoveGrowAndGo(t *testing.T) {
	for _, runs := range []bool{false, true} {
		n := newNode(t)
		n.do(Create, 100, blank("scsi0", "local:0.125,format=qcow2,cache=none", "scsi1", "local:0.125,format=qcow2")...)
		n.fillDisk("local:100/vm-100-disk-0.qcow2", "one")
		if runs {
			n.do(Start, 100)
		}
		n.do(Move, 100, "disk", "scsi0", "storage", "other", "format", "raw", "delete", "1")
		n.has(100, "scsi0: other:100/vm-100-disk-0.raw,cache=none,size=128M\n", "!unused0")
		n.reads("other:100/vm-100-disk-0.raw", "one")
		n.volumes("local", 100, "100/vm-100-disk-1.qcow2")
		n.do(Resize, 100, "disk", "scsi0", "size", "+32M")
		n.has(100, "scsi0: other:100/vm-100-disk-0.raw,cache=none,size=160M\n")
		n.refuse("shrinking disks is not supported", Resize, 100, "disk", "scsi0", "size", "1M")
		n.refuse("you can't move to the same storage with same format", Move, 100, "disk", "scsi0", "storage", "other")
		n.refuse("disk 'scsi9' does not exist", Move, 100, "disk", "scsi9", "storage", "other")
		n.do(Move, 100, "disk", "scsi0", "storage", "other", "format", "qcow2")
		n.has(100, "scsi0: other:100/vm-100-disk-1.qcow2,cache=none,size=160M\n", "unused0: other:100/vm-100-disk-0.raw\n")
		if runs {
			n.status(100, "running")
			n.quiet()
			n.do(Snapshot, 100, "snapname", "after")
			n.do(DelSnapshot, 100, "snapname", "after")
			n.do(Stop, 100)
			n.status(100, "stopped")
		}
		n.reads("other:100/vm-100-disk-1.qcow2", "one")
		n.do(Configure, 100, "delete", "unused0,scsi1")
		n.volumes("other", 100, "100/vm-100-disk-1.qcow2")
		n.has(100, "unused0: local:100/vm-100-disk-1.qcow2\n", "!scsi1")
		n.do(ImportDisk, 100, "source", n.images+"/b/images/100/vm-100-disk-1.qcow2", "storage", "local", "format", "raw")
		n.has(100, "unused1: local:100/vm-100-disk-0.raw\n")
		n.reads("local:100/vm-100-disk-0.raw", "one")
		stray := n.disk(100, "qcow2")
		n.do(Rescan, 100)
		n.has(100, "unused2: "+stray+"\n")
		n.do(Create, 200, blank()...)
		n.refuse("VM 200: detected modified configuration - file changed by other user? Try again.", Move, 100, "disk", "unused1", "target-vmid", "200", "target-digest", "0")
		n.do(Move, 100, "disk", "unused1", "target-vmid", "200", "target-disk", "scsi3")
		n.has(200, "scsi3: local:200/vm-200-disk-0.raw\n")
		n.has(100, "!unused1")
	}
}

// quiet requires that the agent has nothing to do for the running guest: what a
// verb changed in QEMU is what the configuration says.
func (n *node) quiet() {
	n.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		said := n.Said(100)
		if said.State == "applied" {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("the agent says %+v", said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestTemplateAndClones(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("name", "gold", "description", "for clones", "scsi0", "local:0.125,format=qcow2", "net0", "virtio=BC:24:11:00:00:01", "smbios1", "uuid=6e9d7c5e-0001-4000-8000-000000000000")...)
	n.fillDisk("local:100/vm-100-disk-0.qcow2", "one")
	n.refuse("linked clone feature for 'local:100/vm-100-disk-0.qcow2' is not available", Clone, 100, "newid", "101", "full", "0")
	n.do(Snapshot, 100, "snapname", "old")
	n.fillDisk("local:100/vm-100-disk-0.qcow2", "two")
	n.do(Start, 100)
	log := n.do(Clone, 100, "newid", "101", "name", "copy", "storage", "other", "format", "raw")
	if !strings.Contains(log, "create full clone of drive scsi0 (local:100/vm-100-disk-0.qcow2)\n") {
		t.Errorf("log %q", log)
	}
	n.has(101, "name: copy\n", "scsi0: other:101/vm-101-disk-0.raw,size=128M\n", "net0: virtio=BC:24:11:", "!net0: virtio=BC:24:11:00:00:01", "!#for", "![old]", "!lock:", "!parent:", "!smbios1: uuid=6e9d7c5e-0001")
	n.reads("other:101/vm-101-disk-0.raw", "two")
	n.do(Stop, 100)
	n.status(100, "stopped")
	n.do(Clone, 100, "newid", "102", "snapname", "old")
	n.has(102, "name: Copy-of-gold\n", "scsi0: local:102/vm-102-disk-0.qcow2,size=128M\n")
	n.reads("local:102/vm-102-disk-0.qcow2", "one")
	n.refuse("you can't convert a VM to template if VM has snapshots", Template, 100)
	n.do(DelSnapshot, 100, "snapname", "old")
	n.do(Template, 100)
	n.has(100, "template: 1\n", "scsi0: local:100/base-100-disk-0.qcow2,size=128M\n")
	n.do(Clone, 100, "newid", "103")
	n.has(103, "scsi0: local:100/base-100-disk-0.qcow2/103/vm-103-disk-0.qcow2,size=128M\n", "!template:")
	n.reads("local:100/base-100-disk-0.qcow2/103/vm-103-disk-0.qcow2", "two")
	n.do(Start, 103)
	n.do(Stop, 103)
	if _, err := n.task(Destroy, 100); err == nil || !strings.Contains(err.Error(), "still in use") {
		t.Errorf("%v", err)
	}
	n.has(100, "template: 1\n")
	n.do(Destroy, 103)
	n.do(Destroy, 100)
	n.volumes("local", 100)
	if _, err := n.task(Clone, 101, "newid", "102"); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("%v", err)
	}
	n.has(102, "scsi0: ")
}

func TestImportBecomesADrive(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("scsi0", "local:0.01,format=qcow2")...)
	n.do(ImportDisk, 100, "source", n.images+"/a/images/100/vm-100-disk-0.qcow2", "storage", "other", "format", "qcow2", "target-disk", "virtio3")
	n.has(100, "virtio3: other:100/vm-100-disk-0.qcow2,size=")
	n.refuse("target disk 'virtio3' already exists", ImportDisk, 100, "source", n.images+"/a/images/100/vm-100-disk-0.qcow2", "storage", "other", "target-disk", "virtio3")
	n.volumes("other", 100, "100/vm-100-disk-0.qcow2")
}

func TestSnapshotSaysWhichDiskHasNone(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("scsi0", "local:0.01,format=raw")...)
	n.refuse("snapshot feature is not available - scsi0: no snapshots of 'local:100/vm-100-disk-0.raw': its format or storage has none", Snapshot, 100, "snapname", "xx")
}
