package verbs

import (
	"strings"
	"testing"
)

// TestSnapshotKeepsDiskAndMemory takes a guest through snapshots with and without
// its memory and back.
func TestSnapshotKeepsDiskAndMemory(t *testing.T) {
	n := newNode(t)
	disk := n.disk(100, "qcow2")
	n.linux(100, "scsi0: "+disk+",size=64M")
	n.do(Start, 100)
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
