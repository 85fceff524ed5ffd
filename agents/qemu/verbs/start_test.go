package verbs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/host"
	config "etcpve/cfs/format/guest"
)

// argv is the command line of a VM's QEMU.
func (n *node) argv(vmid uint32) []string {
	n.Helper()
	process, running, err := n.Process(vmid)
	n.must(err)
	if !running {
		n.Fatalf("VM %d does not run", vmid)
	}
	argv, err := host.Proc.Argv(process)
	n.must(err)
	return argv
}

// TestStartDoesOnceWhatItIsTold starts a VM on another machine and CPU than
// configured; the start after it is as configured again.
func TestStartDoesOnceWhatItIsTold(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("cpu", "qemu64", "machine", "pc-i440fx-6.2")...)
	for _, c := range []struct {
		params       []string
		machine, cpu string
	}{
		{[]string{"machine", "q35", "force-cpu", "max,-x2apic"}, "q35", "max,-x2apic"},
		{nil, "pc-i440fx-6.2", "qemu64"},
	} {
		n.do(Start, 100, c.params...)
		argv := strings.Join(n.argv(100), " ")
		if !strings.Contains(argv, "-cpu "+c.cpu) || !strings.Contains(argv, c.machine) {
			t.Errorf("start %q: %s", c.params, argv)
		}
		n.do(Stop, 100)
		n.status(100, "stopped")
	}
	// What cannot be started leaves nothing to the next start.
	if _, err := n.task(Start, 100, "machine", "pc-i440fx-none"); err == nil {
		t.Error("a machine that is none was started")
	}
	n.do(Start, 100)
	if argv := n.argv(100); slices.Contains(argv, "pc-i440fx-none") {
		t.Errorf("%q", argv)
	}
	n.do(Stop, 100)
	n.refuse("migratedfrom: a VM that arrives needs no start: use 'qm migrate' on the node it is on", Start, 100, "migratedfrom", "n2")
	n.refuse("stateuri: 'tcp' is what a migration uses: use 'qm migrate' on the node the VM is on", Start, 100, "stateuri", "tcp")
}

// TestSkipLockStartsAndStops has a locked VM started, paused, resumed and shut
// down; without the option each is refused.
func TestSkipLockStartsAndStops(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank("acpi", "0")...)
	n.do(Configure, 100, "lock", "backup")
	n.refuse("VM is locked (backup)", Start, 100)
	for _, c := range []struct{ verb, status string }{
		{Start, "running"}, {Suspend, "paused"}, {Resume, "running"}, {Shutdown, "stopped"}, {Start, "running"}, {Stop, "stopped"},
	} {
		n.do(c.verb, 100, "skiplock", "1")
		n.status(100, c.status)
	}
	n.has(100, "lock: backup\n")
	if left, _ := filepath.Glob(filepath.Join(n.RunDir, "*.skiplock")); left != nil {
		t.Errorf("%q are left", left)
	}
}

// TestStopOverrulesShutdown stops a VM for whose guest, which has no system, a
// shutdown waits.
func TestStopOverrulesShutdown(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank()...)
	n.do(Start, 100)
	n.drop(Shutdown, 100, "timeout", "600")
	n.until("the shutdown", func() bool { return n.claimed(Shutdown) != "" })
	if log := n.do(Stop, 100, "overrule-shutdown", "1"); !strings.Contains(log, "stopped 1 task(s)") {
		t.Errorf("log %q", log)
	}
	n.status(100, "stopped")
	n.until("the end of the shutdown", func() bool { return strings.Contains(n.claimed(Shutdown), "\nstatus: ") })
	if text := n.claimed(Shutdown); !strings.Contains(text, "status: stopped as asked") {
		t.Errorf("%s", text)
	}
}

// TestStopLeavesTheWishOfAVMThatIsElsewhere ends what runs of a VM whose
// configuration went to another node, where it is to run.
func TestStopLeavesTheWishOfAVMThatIsElsewhere(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank()...)
	n.do(Start, 100)
	n.must(os.MkdirAll(filepath.Join(n.Tree, "nodes/n2/qemu-server"), 0o755))
	n.must(os.Rename(filepath.Join(n.Tree, n.Path(100)), filepath.Join(n.Tree, "nodes/n2/qemu-server/100.conf")))
	n.refuse("Configuration file 'nodes/n3/qemu-server/100.conf' does not exist", Stop, 100, "migratedfrom", "n3")
	n.do(Stop, 100, "migratedfrom", "n2")
	n.status(100, "stopped")
	if text, err := os.ReadFile(filepath.Join(n.Tree, "power/100")); string(text) != "running\n" || err != nil {
		t.Errorf("power/100: %q, %v", text, err)
	}
}

func TestNewVMsJoinPoolsAndHA(t *testing.T) {
	n := newNode(t)
	n.must(os.MkdirAll(filepath.Join(n.Tree, "ha"), 0o755))
	const users = "user:a@pve:1:0::::::\n\npool:web:for%20web:9000:local:\npool:db::101::\n\nacl:1:/vms/100:a@pve:PVEVMUser:\nacl:1:/vms/101:a@pve:PVEVMUser:\n"
	n.must(n.Write(t.Context(), "user.cfg", users))
	n.must(n.Write(t.Context(), "ha/resources.cfg", "ct: 200\n\tstate started\n"))
	n.refuse("pool 'none' does not exist", Create, 100, "pool", "none")
	n.refuse("storage: storage 'none' does not exist", Create, 100, "storage", "none")
	n.do(Create, 100, blank("pool", "web", "ha-managed", "1")...)
	n.do(Clone, 100, "newid", "102", "pool", "db")
	for path, want := range map[string]string{
		"user.cfg":         strings.NewReplacer("web:for%20web:9000:", "web:for%20web:9000,100:", "db::101:", "db::101,102:").Replace(users),
		"ha/resources.cfg": "ct: 200\n\tstate started\n\nvm: 100\n\tstate stopped\n",
	} {
		if text, err := os.ReadFile(filepath.Join(n.Tree, path)); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, text, err, want)
		}
	}
	n.must(n.Write(t.Context(), "replication.cfg", "local: 100-0\n\ttarget n2\n\nlocal: 1000-0\n\ttarget n2\n"))
	n.must(n.Write(t.Context(), "ha/resources.cfg", ""))
	n.refuse("There is a replication job '100-0' for guest '100' - Please remove that first.", Destroy, 100)
	n.do(Destroy, 100, "purge", "1")
	for path, want := range map[string]string{
		"user.cfg":        strings.NewReplacer("db::101:", "db::101,102:", "acl:1:/vms/100:a@pve:PVEVMUser:\n", "").Replace(users),
		"replication.cfg": "local: 1000-0\n\ttarget n2\n",
	} {
		if text, err := os.ReadFile(filepath.Join(n.Tree, path)); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, text, err, want)
		}
	}
}

func TestClonesForOtherNodesNeedSharedDisks(t *testing.T) {
	n := newNode(t)
	n.must(os.MkdirAll(filepath.Join(n.Tree, "nodes/n2/qemu-server"), 0o755))
	text, err := os.ReadFile(filepath.Join(n.Tree, "storage.cfg"))
	n.must(err)
	n.must(n.Write(t.Context(), "storage.cfg", string(text)+"\ndir: nas\n\tpath "+n.images+"/c\n\tcontent images\n\tshared 1\n"))
	n.do(Create, 100, blank("scsi0", "nas:0.125")...)
	n.do(Create, 101, blank("scsi0", "local:0.125")...)
	n.refuse("no such cluster node 'n9'", Clone, 100, "newid", "200", "target", "n9")
	n.refuse("can't clone to non-shared storage 'local'", Clone, 100, "newid", "200", "target", "n2", "storage", "local")
	n.refuse("can't clone VM to node 'n2' (VM uses local storage)", Clone, 101, "newid", "200", "target", "n2")
	n.do(Clone, 100, "newid", "200", "target", "n2")
	moved, err := os.ReadFile(filepath.Join(n.Tree, "nodes/n2/qemu-server/200.conf"))
	if err != nil || !strings.Contains(string(moved), "scsi0: nas:200/vm-200-disk-0.raw,size=128M\n") || n.conf(200) != "" {
		t.Errorf("%v: %s", err, moved)
	}
}

// TestResumeWithoutCheck resumes a VM whose configuration is on its way.
func TestResumeWithoutCheck(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank()...)
	n.do(Start, 100)
	n.do(Suspend, 100)
	n.must(os.Rename(filepath.Join(n.Tree, n.Path(100)), filepath.Join(n.TempDir(), "100.conf")))
	n.refuse("Configuration file 'nodes/n1/qemu-server/100.conf' does not exist", Resume, 100)
	n.do(Resume, 100, "nocheck", "1")
	n.status(100, "running")
}

// TestStartFromAState has a VM begin in a state that was saved before, in a file
// that its configuration does not know.
func TestStartFromAState(t *testing.T) {
	n := newNode(t)
	n.do(Create, 100, blank()...)
	n.do(Start, 100)
	n.do(Suspend, 100, "todisk", "1")
	n.status(100, "stopped")
	c, err := n.Load(t.Context(), 100)
	n.must(err)
	path, err := n.Catalog.Path(c.Main.Get("vmstate"))
	n.must(err)
	state := filepath.Join(t.TempDir(), "state")
	n.must(os.Rename(path, state))
	n.must(n.Edit(t.Context(), 100, func(c *config.Config) error {
		c.Main.Delete("lock", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu")
		return nil
	}))
	n.do(Start, 100, "stateuri", state)
	n.status(100, "running")
	if argv := n.argv(100); !slices.Contains(argv, "-incoming") {
		t.Errorf("%q", argv)
	}
	n.do(Stop, 100)
	n.status(100, "stopped")
	n.do(Start, 100)
	if argv := n.argv(100); slices.Contains(argv, "-incoming") {
		t.Errorf("the next start begins there too: %q", argv)
	}
}
