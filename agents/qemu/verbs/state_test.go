package verbs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/qemu/snapshot"
	"etcpve/cfs/format/guest"
)

// TestSnapshotKeepsDiskAndMemory takes a guest through snapshots with and without
// its memory and back.
func TestSnapshotKeepsDiskAndMemory(t *testing.T) {
	n := newNode(t)
	disk := n.disk(100, "qcow2")
	n.linux(100, "scsi0: "+disk+",size=64M")
	n.do(Start, 100)
	n.sda(100)
	n.shell(100, "WORD=first; echo one >/dev/sda; sync; echo re''ady", "ready")
	log := n.do(Snapshot, 100, "snapname", "live", "vmstate", "1", "description", "with 100%\nof memory")
	if !strings.Contains(log, "snapshotting 'drive-scsi0' ("+disk+")\n") || !strings.Contains(log, "completed saving the VM state\n") {
		t.Errorf("log %q", log)
	}
	n.has(100, "parent: live", "[live]", "#with 100%25\n#of memory", "vmstate: local:100/vm-100-state-live.raw", "runningmachine: pc-i440fx-", "!lock:", "!snapstate:")
	n.status(100, "running")
	n.shell(100, "echo $WORD-still", "first-still")
	n.do(Snapshot, 100, "snapname", "cold")
	n.has(100, "parent: cold")
	if list := n.image(disk, "snapshot", "-l"); !strings.Contains(list, "live") || !strings.Contains(list, "cold") {
		t.Errorf("snapshots in the image:\n%s", list)
	}
	n.shell(100, "WORD=second; echo two >/dev/sda; sync; echo re''ady", "ready")
	n.do(Rollback, 100, "snapname", "live")
	n.status(100, "running")
	n.shell(100, "echo $WORD-again", "first-again")
	n.shell(100, "echo 3 >/proc/sys/vm/drop_caches; head -c 3 /dev/sda; echo -disk", "one-disk")
	n.has(100, "parent: live", "[cold]", "!vmstate: x")
	n.do(DelSnapshot, 100, "snapname", "live")
	n.has(100, "![live]", "[cold]")
	if list := n.image(disk, "snapshot", "-l"); strings.Contains(list, "live") {
		t.Errorf("snapshots in the image:\n%s", list)
	}
	if left, err := n.Catalog.List(t.Context(), "local", "images", 100); err != nil || len(left) != 1 {
		t.Errorf("volumes %v, %v", left, err)
	}
	n.do(Rollback, 100, "snapname", "cold")
	n.status(100, "stopped")
	n.refuse("snapshot 'live' does not exist", Rollback, 100, "snapname", "live")
	if _, err := n.task(Snapshot, 100, "snapname", "x"); err == nil || !strings.HasPrefix(err.Error(), "snapname: 'x' is not a name") {
		t.Errorf("%v", err)
	}
	n.refuse("snapshot name 'cold' already used", Snapshot, 100, "snapname", "cold")
}

// sda waits until a guest has its disk: writing before that makes a file.
func (n *node) sda(vmid uint32) {
	n.Helper()
	n.shell(vmid, "[ -b /dev/sda ] && echo ha''ve-sda", "have-sda")
}

// TestSnapshotsAsAChain takes a running guest through snapshots that are files,
// and removes them in an order of its own.
func TestSnapshotsAsAChain(t *testing.T) {
	n := newNode(t)
	n.must(n.Write(t.Context(), "storage.cfg", "dir: local\n\tpath "+n.images+"/a\n\tcontent images\n\tsnapshot-as-volume-chain 1\n"))
	disk := n.disk(100, "qcow2")
	n.linux(100, "scsi0: "+disk+",size=64M")
	n.do(Start, 100)
	n.sda(100)
	for _, word := range []string{"one", "two", "six"} {
		n.shell(100, "echo "+word+" >/dev/sda; sync; echo wr''ote-"+word, "wrote-"+word)
		n.do(Snapshot, 100, "snapname", word)
	}
	n.shell(100, "echo new >/dev/sda; sync; echo wr''ote-new", "wrote-new")
	chained := func(files string) {
		t.Helper()
		b, err := n.Catalog.Blockdev(disk, "")
		n.must(err)
		var names []string
		for _, file := range b.Chain {
			names = append(names, strings.TrimSuffix(filepath.Base(file), "vm-100-disk-0.qcow2"))
		}
		if got := strings.Join(names, " "); got != files {
			t.Errorf("chain %q, want %q", got, files)
		}
	}
	chained(" snap-six- snap-two- snap-one-")
	path, err := n.Catalog.Path(disk)
	n.must(err)
	holds := func(snapshot, word string) {
		t.Helper()
		flat := filepath.Join(t.TempDir(), "flat")
		b, err := n.Catalog.Blockdev(disk, snapshot)
		n.must(err)
		n.must(exec.Command("qemu-img", "convert", "-U", "-O", "raw", b.Path, flat).Run())
		if content, err := os.ReadFile(flat); err != nil || !strings.HasPrefix(string(content), word+"\n") {
			t.Errorf("'%s' begins with %.8q, %v; want %s", snapshot, content, err, word)
		}
	}
	holds("one", "one")
	holds("two", "two")
	holds("six", "six")
	n.do(DelSnapshot, 100, "snapname", "two")
	chained(" snap-six- snap-one-")
	n.do(DelSnapshot, 100, "snapname", "one")
	chained(" snap-six-")
	holds("six", "six")
	n.do(Snapshot, 100, "snapname", "live", "vmstate", "1")
	chained(" snap-live- snap-six-")
	n.shell(100, "echo 3 >/proc/sys/vm/drop_caches; head -c 3 /dev/sda; echo -disk", "new-disk")
	n.shell(100, "echo bad >/dev/sda; sync; echo wr''ote-bad", "wrote-bad")
	n.refuse("can't rollback, 'six' is not most recent snapshot on '100/vm-100-disk-0.qcow2': in the way: live", Rollback, 100, "snapname", "six")
	n.do(Rollback, 100, "snapname", "live")
	n.status(100, "running")
	n.shell(100, "echo 3 >/proc/sys/vm/drop_caches; head -c 3 /dev/sda; echo -again", "new-again")
	n.do(DelSnapshot, 100, "snapname", "live")
	n.do(Snapshot, 100, "snapname", "gone")
	n.do(Configure, 100, "delete", "scsi0")
	n.until("QEMU lets go of the disk", func() bool {
		time.Sleep(50 * time.Millisecond)
		return exec.Command("qemu-img", "check", path).Run() == nil
	})
	n.do(DelSnapshot, 100, "snapname", "gone")
	n.do(Rollback, 100, "snapname", "six")
	n.status(100, "stopped")
	n.do(DelSnapshot, 100, "snapname", "six")
	chained("")
	holds("", "six")
}

func TestAChainOfALinkedCloneStaysOnItsBase(t *testing.T) {
	n := newNode(t)
	n.must(n.Write(t.Context(), "storage.cfg", "dir: local\n\tpath "+n.images+"/a\n\tcontent images\n\tsnapshot-as-volume-chain 1\n"))
	n.do(Create, 100, blank("scsi0", "local:0.125,format=qcow2")...)
	n.do(Template, 100)
	n.do(Clone, 100, "newid", "101")
	disk := "100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2"
	n.has(101, "scsi0: local:"+disk)
	n.do(Start, 101)
	n.status(101, "running")
	for _, name := range []string{"one", "two", "three"} {
		n.do(Snapshot, 101, "snapname", name)
	}
	for _, name := range []string{"two", "one", "three"} {
		n.do(DelSnapshot, 101, "snapname", name)
		n.volumes("local", 101, disk)
	}
	// An agent was killed when the storage had begun a new file and QEMU had not.
	n.must(n.Catalog.Snapshot(t.Context(), "local:"+disk, "half"))
	d := &snapshot.Driver{Place: n.Place, VM: 101, Say: t.Logf, Warn: t.Logf}
	n.must(d.Book().Volumes.DeleteSnapshot(t.Context(), guest.Volume{Key: "scsi0", Volume: "local:" + disk}, "half"))
	// Another one was killed when QEMU wrote under the new name already.
	top, base := n.chainNodes(101)
	n.must(n.Catalog.Snapshot(t.Context(), "local:"+disk, "three quarters"))
	n.must(n.Command(t.Context(), 101, "blockdev-add", map[string]any{"node-name": "renamed", "driver": "file", "locking": "off",
		"filename": n.images + "/a/images/101/snap-three quarters-vm-101-disk-0.qcow2", "cache": map[string]any{"direct": true}}, nil))
	n.must(n.Command(t.Context(), 101, "blockdev-reopen", map[string]any{"options": []any{map[string]any{
		"node-name": top, "driver": "qcow2", "file": "renamed", "backing": base, "cache": map[string]any{"direct": true}}}}, nil))
	n.must(d.Book().Volumes.DeleteSnapshot(t.Context(), guest.Volume{Key: "scsi0", Volume: "local:" + disk}, "three quarters"))
	n.do(Snapshot, 101, "snapname", "four")
	n.do(DelSnapshot, 101, "snapname", "four")
	if files, err := filepath.Glob(n.images + "/a/images/101/*"); err != nil || len(files) != 1 {
		t.Errorf("files %q, %v", files, err)
	}
	n.do(Stop, 101)
	n.do(Destroy, 101)
	n.do(Destroy, 100)
}

// chainNodes returns QEMU's nodes for the one disk of a VM that is a linked clone,
// and for its base.
func (n *node) chainNodes(vmid uint32) (top, base string) {
	n.Helper()
	var nodes []struct {
		Name   string `json:"node-name"`
		Driver string `json:"drv"`
		Depth  int    `json:"backing_file_depth"`
	}
	n.must(n.Command(n.Context(), vmid, "query-named-block-nodes", nil, &nodes))
	for _, node := range nodes {
		switch {
		case node.Driver != "qcow2":
		case node.Depth == 1:
			top = node.Name
		case node.Depth == 0:
			base = node.Name
		}
	}
	return top, base
}

func TestSuspendToDiskAndBack(t *testing.T) {
	n := newNode(t)
	n.linux(100, "scsi0: "+n.disk(100, "raw")+",size=64M")
	n.do(Start, 100)
	n.shell(100, "WORD=asleep; echo re''ady", "ready")
	n.do(Suspend, 100, "todisk", "1")
	n.status(100, "stopped")
	n.has(100, "lock: suspended", "vmstate: local:100/vm-100-state-suspend-", "runningmachine: pc-")
	n.refuse("VM is locked (suspended)", Snapshot, 100, "snapname", "no")
	n.do(Start, 100)
	n.status(100, "running")
	n.shell(100, "echo $WORD-awake", "asleep-awake")
	n.has(100, "!lock:", "!vmstate:", "!runningmachine:")
	if left, err := n.Catalog.List(t.Context(), "local", "images", 100); err != nil || len(left) != 1 {
		t.Errorf("volumes %v, %v", left, err)
	}
	n.do(Suspend, 100)
	n.status(100, "paused")
	n.do(Resume, 100)
	n.status(100, "running")
	n.do(Reset, 100)
	n.do(Stop, 100)
	n.status(100, "stopped")
	n.refuse("VM 100 not running", Suspend, 100)
}
