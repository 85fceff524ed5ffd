package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"etcpve/agents/qemu/verbs"
)

// idle is a VM with nothing to boot.
const idle = "kvm: 0\nmemory: 32\nvga: none\n"

func (c *cluster) vm(lines ...string) {
	c.Helper()
	c.write(1, "nodes/n1/qemu-server/100.conf", idle+strings.Join(lines, "\n")+"\n")
}

// here requires that the VM is on a node and nowhere else, unlocked.
func (c *cluster) here(i int, lines ...string) {
	c.Helper()
	text := "\n" + c.conf(i)
	if c.conf(3-i) != "" || strings.Contains(text, "lock:") {
		c.Errorf("on n%d:%s\non the other node:\n%s", i, text, c.conf(3-i))
	}
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line) {
			c.Errorf("on n%d, want %q:%s", i, line, text)
		}
	}
}

func TestStoppedVMMovesWithItsDisks(t *testing.T) {
	c := newCluster(t)
	raw, qcow2, shared := c.volume("local", "raw", "one"), c.volume("other", "qcow2", "two"), c.volume("shared", "raw", "three")
	spare := c.volume("local", "raw", "spare")
	c.vm("scsi0: "+raw+",size=8M", "scsi1: "+qcow2, "scsi2: "+shared, "unused0: "+spare, "scsi3: none,media=cdrom", "protection: 1")
	c.write(1, "power/100", "stopped\n")
	c.do(1, Migrate, "target", "n2", "targetstorage", "local:other,other:local")
	c.here(2, "scsi0: other:100/vm-100-disk-0.raw,size=8M", "scsi1: local:100/vm-100-disk-0.qcow2", "scsi2: "+shared, "unused0: other:100/vm-100-disk-1.raw", "scsi3: none,media=cdrom", "protection: 1")
	c.holds(2, "other:100/vm-100-disk-0.raw", "one")
	c.holds(2, "local:100/vm-100-disk-0.qcow2", "two")
	c.holds(2, "other:100/vm-100-disk-1.raw", "spare")
	c.holds(2, shared, "three")
	if left := c.volumes(1, "local", "other"); left != nil {
		t.Errorf("left behind: %q", left)
	}
	if task := c.file(2, Tunnel); !strings.Contains(task, "\nstatus: OK\n") {
		t.Errorf("the other node's task:\n%s", task)
	}

	// And back, where a name is taken by now.
	c.volume("other", "raw", "foreign")
	c.do(2, Migrate, "target", "n1")
	c.here(1, "scsi0: other:100/vm-100-disk-1.raw,size=8M", "scsi1: local:100/vm-100-disk-0.qcow2")
	c.holds(1, "other:100/vm-100-disk-1.raw", "one")
	if left := c.volumes(2, "local", "other"); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestSnapshotsMoveWithTheirVM(t *testing.T) {
	c := newCluster(t)
	disk := c.volume("local", "qcow2", "old")
	c.vm("scsi0: " + disk + ",size=8M")
	c.do(1, verbs.Snapshot, "snapname", "before")
	c.do(1, Migrate, "target", "n2", "targetstorage", "other")
	c.here(2, "scsi0: other:100/vm-100-disk-0.qcow2,size=8M", "[before]")
	if got := strings.Count(c.conf(2), "other:100/vm-100-disk-0.qcow2"); got != 2 {
		t.Errorf("the snapshot was not changed:\n%s", c.conf(2))
	}
	c.do(2, verbs.Rollback, "snapname", "before")
	c.holds(2, "other:100/vm-100-disk-0.qcow2", "old")
}

func TestWhatCannotMoveIsRefused(t *testing.T) {
	c := newCluster(t)
	disk := c.volume("local", "raw", "one")
	c.must(os.MkdirAll(filepath.Join(c.tree(1), "a/template/iso"), 0o755))
	c.must(os.WriteFile(filepath.Join(c.tree(1), "a/template/iso/x.iso"), nil, 0o600))
	c.vm("scsi0: " + disk)
	c.refuse("target is local node", "target", "n1")
	c.refuse("no such cluster node 'n9'", "target", "n9")
	c.refuse("node 'n3' is not online", "target", "n3")
	c.refuse("storage 'nowhere' does not exist", "target", "n2", "targetstorage", "nowhere")
	c.refuse("storage 'first' is not available on node 'n2'", "target", "n2", "targetstorage", "local:first")
	c.refuse("'local' is mapped twice", "target", "n2", "targetstorage", "local:other,local:shared")
	c.refuse("has no address in network '198.18.99.0/24'", "target", "n2", "migration_network", "198.18.99.0/24")
	for line, want := range map[string]string{
		"usb0: host=1234:5678":                "can't migrate VM which uses local devices: usb0",
		"serial0: /dev/ttyS0":                 "can't migrate VM which uses local devices: serial0",
		"ide2: local:iso/x.iso,media=cdrom":   "can't migrate local cdrom 'local:iso/x.iso' (referenced in ide2)",
		"ide2: cdrom,media=cdrom":             "can't migrate local cdrom drive (referenced in ide2)",
		"scsi1: /dev/sdx":                     "can't migrate local file/device '/dev/sdx' (referenced in scsi1)",
		"lock: backup":                        "VM is locked (backup)",
		"scsi1: local:101/vm-101-disk-0.raw":  "can't migrate 'local:101/vm-101-disk-0.raw': it belongs to guest 101",
		"scsi1: first:100/vm-100-disk-0.raw":  "storage 'first' is not available on node 'n2'",
		"[snap]\nscsi0: " + disk + ",size=8M": "it cannot be sent with its snapshots",
	} {
		c.vm("scsi0: "+disk, line)
		c.refuse(want, "target", "n2")
	}
	if left := c.volumes(2, "local", "other"); left != nil {
		t.Errorf("left on the other node: %q", left)
	}
	c.holds(1, disk, "one")
}

// TestFailureOnTheOtherNodeUndoesAll lets the other node fail in the middle of a disk.
func TestFailureOnTheOtherNodeUndoesAll(t *testing.T) {
	c := newCluster(t)
	first, second := c.volume("local", "raw", "one"), c.volume("local", "raw", "two")
	c.vm("scsi0: "+first, "scsi1: "+second)
	c.drop(1, Migrate, "target", "n2", "bwlimit", "4096")
	c.until("the second disk", func() bool { return strings.Contains(c.file(2, Tunnel), "made: local:100/vm-100-disk-0.raw\n") })
	c.until("the end", func() bool {
		c.stop(2, Tunnel)
		return strings.Contains(c.file(1, Migrate), "\nstatus: migration aborted: ")
	})
	c.here(1, "scsi0: "+first, "scsi1: "+second)
	c.holds(1, first, "one")
	c.until("nothing is left", func() bool { return c.volumes(2, "local", "other") == nil })
}

// stop asks for the end of a task. The line is lost if the task's agent writes
// the file at that moment.
func (c *cluster) stop(i int, kind string) {
	c.Helper()
	found, _ := filepath.Glob(filepath.Join(c.dir, fmt.Sprintf("nodes/n%d/tasks/UPID:*:%s:*@pam:", i, kind))) // the pattern is well formed
	if text := c.file(i, kind); strings.Contains(text, "\nstop: ") || len(found) == 0 {
		return
	}
	f, err := os.OpenFile(found[0], os.O_WRONLY|os.O_APPEND, 0)
	c.must(err)
	_, err = f.WriteString("stop: 1\n")
	c.must(errors.Join(err, f.Close()))
}

func TestRunningVMMovesWithItsMemory(t *testing.T) {
	c := newCluster(t)
	shared, local := c.volume("shared", "qcow2", "three"), c.volume("local", "qcow2", "one")
	c.vm("scsi0: "+shared+",size=8M", "scsi1: "+local+",mbps=200,size=8M", "scsihw: virtio-scsi-single", "sata0: none,media=cdrom", "migrate_downtime: 0.5")
	c.do(1, verbs.Start)
	c.refuse("can't migrate running VM without --online", "target", "n2")
	c.refuse("can't live migrate attached local disks without with-local-disks option", "target", "n2", "online", "1")
	c.do(1, Migrate, "target", "n2", "online", "1", "with-local-disks", "1", "targetstorage", "other")
	c.here(2, "scsi0: "+shared+",size=8M", "scsi1: other:100/vm-100-disk-0.qcow2,mbps=200,size=8M")
	c.status(2, "running")
	if alive, err := c.place(1).Running(t.Context(), 100); err != nil || alive {
		t.Errorf("it still runs on n1, or: %v", err)
	}
	c.until("peace", func() bool { return c.place(2).Said(100).State == "applied" })
	c.holds(2, "other:100/vm-100-disk-0.qcow2", "one")
	if left := c.volumes(1, "local", "other"); left != nil {
		t.Errorf("left behind: %q", left)
	}

	// Its memory is the same afterwards. It is compared while nothing changes it.
	c.do(2, verbs.Suspend)
	before := c.memory(2)
	c.do(2, Migrate, "target", "n1", "online", "1", "with-local-disks", "1")
	c.here(1, "scsi1: other:100/vm-100-disk-0.qcow2,mbps=200,size=8M")
	c.status(1, "paused")
	if after := c.memory(1); !bytes.Equal(before, after) {
		t.Error("its memory is another one")
	}
	c.holds(1, "other:100/vm-100-disk-0.qcow2", "one")
	c.do(1, verbs.Resume)
	c.status(1, "running")
	if text, err := os.ReadFile(filepath.Join(c.dir, "power/100")); string(text) != "running\n" {
		t.Errorf("power: %q, %v", text, err)
	}
}

// memory returns the memory of the VM.
func (c *cluster) memory(i int) []byte {
	c.Helper()
	file := filepath.Join(c.TempDir(), "memory")
	c.must(c.place(i).Command(c.Context(), 100, "pmemsave", map[string]any{"val": 0, "size": 32 << 20, "filename": file}, nil))
	content, err := os.ReadFile(file)
	c.must(err)
	if len(bytes.Trim(content, "\x00")) == 0 {
		c.Error("the memory is empty")
	}
	return content
}

// A moment is when to kill, and whom: something that can be seen of the work.
type moment struct {
	victim int
	name   string
	comes  func(c *cluster) bool
}

func note(node int, kind, text string) func(*cluster) bool {
	return func(c *cluster) bool { return strings.Contains(c.file(node, kind), text) }
}

func arrived(c *cluster) bool { return c.conf(2) != "" }

// TestKilledAgentLosesNothing kills the agents of either node in the middle of
// migrations. Those that come next bring the VM to one node, whole.
func TestKilledAgentLosesNothing(t *testing.T) {
	for _, m := range []moment{
		{1, "locked", func(c *cluster) bool { return strings.Contains(c.conf(1), "lock: migrate") }},
		{1, "copying", note(2, Tunnel, "making: local")},
		{1, "copied", note(1, Migrate, "moved: ")},
		{1, "given", arrived},
		{2, "copying", note(2, Tunnel, "making: local")},
		{2, "committed", note(2, Tunnel, "commit: 1")},
		{2, "given", arrived},
	} {
		t.Run(fmt.Sprintf("stopped/n%d/%s", m.victim, m.name), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.vm("scsi0: " + c.volume("local", "raw", "one") + ",size=8M")
			c.write(1, "power/100", "stopped\n")
			c.drop(1, Migrate, "target", "n2", "bwlimit", "16384", "targetstorage", "local:other")
			c.kill(m)
			c.whole("stopped")
		})
	}
	for _, m := range []moment{
		{1, "waiting", note(2, Tunnel, "started: 1")},
		{1, "copied", note(1, Migrate, "moved: ")},
		{1, "given", arrived},
		{2, "waiting", note(2, Tunnel, "started: 1")},
		{2, "committed", note(2, Tunnel, "commit: 1")},
		{2, "given", arrived},
	} {
		t.Run(fmt.Sprintf("running/n%d/%s", m.victim, m.name), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.vm("scsi0: " + c.volume("local", "raw", "one") + ",size=8M")
			c.do(1, verbs.Start)
			c.drop(1, Migrate, "target", "n2", "online", "1", "with-local-disks", "1", "targetstorage", "local:other")
			c.kill(m)
			c.whole("running")
		})
	}
}

func (c *cluster) kill(m moment) {
	c.Helper()
	c.until(m.name, func() bool { return m.comes(c) || strings.Contains(c.file(1, Migrate), "\nstatus: ") })
	c.halt(m.victim, syscall.SIGKILL)
	c.spawn(m.victim)
}

// whole requires that the VM is on one node, unlocked, doing what it did, with
// one disk and nothing else, and can be moved again.
func (c *cluster) whole(status string) {
	c.Helper()
	ended := func(i int, kind string) bool {
		text := c.file(i, kind)
		return text == "" || strings.Contains(text, "\nstatus: ")
	}
	c.until("the end of both tasks", func() bool {
		return strings.Contains(c.file(1, Migrate), "\nstatus: ") && ended(2, Tunnel) && !strings.Contains(c.conf(1)+c.conf(2), "lock:")
	})
	at, disk := 1, "local:100/vm-100-disk-0.raw"
	if c.conf(2) != "" {
		at, disk = 2, "other:100/vm-100-disk-0.raw"
	}
	c.here(at, "scsi0: "+disk)
	c.status(at, status)
	c.status(3-at, "stopped")
	c.holds(at, disk, "one")
	var all []string
	c.until("one disk", func() bool {
		all = append(c.volumes(1, "local", "other"), c.volumes(2, "local", "other")...)
		return slices.Equal(all, []string{disk})
	})
	if status == "running" {
		c.do(at, Migrate, "target", fmt.Sprintf("n%d", 3-at), "online", "1", "with-local-disks", "1")
		c.status(3-at, "running")
		return
	}
	c.do(at, Migrate, "target", fmt.Sprintf("n%d", 3-at))
}
