package qemu

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cgroup"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/pages"
	"etcpve/agents/qemu/plug"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// A node is a directory laid out like the cluster file system with an agent
// working on it. Its VMs run under TCG.
type node struct {
	testing.TB
	tree, run, images string
	ports             plug.Ports
	agent             *Agent
	stop              func()
	quiet             bool // an agent's log is not kept
}

// recorder takes the place of bridges.
type recorder struct {
	mu   sync.Mutex
	taps []cmdline.Tap
}

func (r *recorder) Plug(_ context.Context, tap cmdline.Tap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taps = append(r.taps, tap)
	return nil
}

func (r *recorder) Unplug(context.Context, string) error { return nil }

func newNode(t testing.TB) *node {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip(err)
	}
	// A short path, because it is part of socket addresses.
	run, err := os.MkdirTemp("", "qa")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{TB: t, tree: t.TempDir(), run: run, images: t.TempDir(), ports: &recorder{}}
	for _, dir := range []string{"nodes/n1/qemu-server", "power", ".status"} {
		n.must(os.MkdirAll(filepath.Join(n.tree, dir), 0o755))
	}
	n.write("storage.cfg", "dir: local\n\tpath "+n.images+"\n\tcontent images,iso\n")
	t.Cleanup(n.end)
	return n
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// slice is a control group of the test's own: VMs of other tests have the same VMIDs.
func (n *node) slice() string { return filepath.Base(n.run) + ".slice" }

func (n *node) options() Options {
	var log slog.Handler = slog.NewTextHandler(testWriter{n.TB}, &slog.HandlerOptions{Level: slog.LevelDebug})
	if n.quiet {
		log = slog.DiscardHandler
	}
	run := host.System{}
	catalog := storage.Catalog{Tree: n.tree, Node: "n1", Run: run, Plugins: map[string]storage.Plugin{"dir": dir.Plugin{Run: run}}}
	return Options{
		Tree: n.tree, Node: "n1", RunDir: n.run, Locks: filepath.Join(n.run, "lock"), Slice: n.slice(), NoKVM: true, BootID: "boot-1",
		Volumes: storages.Resolver{Catalog: catalog}, Ports: n.ports, Log: slog.New(log),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// begin starts an agent.
func (n *node) begin() {
	n.Helper()
	agent, err := New(n.options())
	n.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	n.agent = agent
	n.stop = func() {
		cancel()
		n.must(<-done)
		n.stop = nil
	}
}

// end kills what still runs.
func (n *node) end() {
	if n.stop != nil {
		n.stop()
	}
	records, _ := filepath.Glob(filepath.Join(n.run, "*.json"))
	for _, name := range records {
		var r record.Record
		if content, err := os.ReadFile(name); err == nil && json.Unmarshal(content, &r) == nil && r.Process.PID > 0 {
			host.Proc.Signal(r.Process, syscall.SIGKILL)
		}
	}
	os.RemoveAll(n.run)
	for _, slice := range []string{"/sys/fs/cgroup/cpu/" + n.slice(), "/sys/fs/cgroup/" + n.slice()} {
		scopes, _ := filepath.Glob(filepath.Join(slice, "*.scope"))
		for _, scope := range scopes {
			var vmid uint32
			fmt.Sscanf(filepath.Base(scope), "%d.scope", &vmid)
			if err := cgroup.Node(n.slice()).Remove(vmid); err != nil {
				n.Error(err)
			}
		}
		os.Remove(slice) // where there is one
	}
}

func (n *node) write(path, content string) {
	n.Helper()
	n.must(os.WriteFile(filepath.Join(n.tree, path), []byte(content), 0o640))
}

func (n *node) conf(lines ...string) {
	n.Helper()
	n.write("nodes/n1/qemu-server/100.conf", strings.Join(lines, "\n")+"\n")
}

func (n *node) power(p Power) {
	n.Helper()
	n.write("power/100", string(p)+"\n")
}

// image makes an empty disk and returns its volume ID.
func (n *node) image(name string) string {
	n.Helper()
	path := filepath.Join(n.images, "images/100", name)
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.Create(path)
	n.must(err)
	n.must(f.Truncate(16 << 20))
	n.must(f.Close())
	return "local:100/" + name
}

// status returns the lines of the status document that begin with key.
func (n *node) status(key string) string {
	content, _ := os.ReadFile(filepath.Join(n.tree, ".status/nodes/n1/qemu-server/100.conf"))
	var found []string
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+": "); ok {
			found = append(found, value)
		}
	}
	return strings.Join(found, "; ")
}

func (n *node) await(what string, ok func() bool) {
	n.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			content, _ := os.ReadFile(filepath.Join(n.tree, ".status/nodes/n1/qemu-server/100.conf"))
			n.Fatalf("still waiting for %s; status:\n%s", what, content)
		}
	}
}

func (n *node) awaitStatus(key, value string) {
	n.Helper()
	n.await(key+": "+value, func() bool { return n.status(key) == value })
}

// settled waits until the configuration as it is now is in force; what was said
// of the one before does not count.
func (n *node) settled() {
	n.Helper()
	n.await("in force", func() bool {
		conf, err := os.ReadFile(filepath.Join(n.tree, "nodes/n1/qemu-server/100.conf"))
		return err == nil && n.status("state") == "applied" && n.status("digest") == fmt.Sprintf("%x", sha1.Sum(conf))
	})
}

// qmp asks QEMU through the socket for tools.
func (n *node) qmp(command string, args, result any) {
	n.Helper()
	m, err := monitor.Dial(n.Context(), cmdline.RunFile(n.run, 100, "qmp"))
	n.must(err)
	defer m.Close()
	n.must(m.Run(n.Context(), command, args, result))
}

func (n *node) devices() map[string]bool {
	n.Helper()
	m, err := monitor.Dial(n.Context(), cmdline.RunFile(n.run, 100, "qmp"))
	n.must(err)
	defer m.Close()
	ids, err := plug.Devices(n.Context(), m.Run)
	n.must(err)
	return ids
}

type blockInfo struct {
	Qdev     string
	TrayOpen bool `json:"tray_open"`
	Inserted *struct {
		File     string
		NodeName string `json:"node-name"`
		IopsRd   int64  `json:"iops_rd"`
		Bps      int64  `json:"bps"`
	}
}

func (n *node) block(key string) (b blockInfo) {
	n.Helper()
	var all []blockInfo
	n.qmp("query-block", nil, &all)
	for _, b = range all {
		if b.Qdev == key || strings.HasPrefix(b.Qdev, "/machine/peripheral/"+key+"/") {
			return b
		}
	}
	n.Fatalf("query-block has no %s", key)
	return b
}

var small = []string{"memory: 64", "vga: none", "tablet: 0", "scsihw: virtio-scsi-pci"}

func TestPowerFileRunsPausesAndStops(t *testing.T) {
	n := newNode(t)
	n.conf(append(small, "scsi0: "+n.image("vm-100-disk-0.raw")+",iops_rd=50")...)
	n.begin()
	n.awaitStatus("guest", "stopped")
	n.power(Running)
	n.awaitStatus("guest", "running")
	n.settled()
	if b := n.block("scsi0"); b.Inserted.IopsRd != 50 {
		t.Errorf("scsi0 starts with %+v", b.Inserted)
	}
	n.power(Paused)
	n.awaitStatus("guest", "paused")
	n.power(Running)
	n.awaitStatus("guest", "running")
	n.conf(append(small, "startup: down=0")...)
	n.power(Stopped)
	n.awaitStatus("guest", "stopped")
	if _, err := os.Stat(filepath.Join(n.run, "100.pid")); err == nil {
		t.Error("the pid file is still there")
	}
}

func TestRunningGuestTakesChanges(t *testing.T) {
	n := newNode(t)
	disk := "scsi0: " + n.image("vm-100-disk-0.raw")
	nic := "net0: virtio=BC:24:11:00:00:01"
	base := append(small, disk, nic, "ide2: none,media=cdrom")
	n.conf(base...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")

	second := "scsi1: " + n.image("vm-100-disk-1.raw")
	n.conf(append(base, second+",mbps=2", "virtio3: "+n.image("vm-100-disk-3.raw"), "net1: e1000=BC:24:11:00:00:02", "cores: 2")...)
	n.await("scsi1, virtio3, net1", func() bool {
		d := n.devices()
		return d["scsi1"] && d["virtio3"] && d["net1"]
	})
	n.awaitStatus("pending", "cores: needs restart")
	if b := n.block("scsi1"); b.Inserted.Bps != 2<<20 {
		t.Errorf("scsi1 was plugged with %+v", b.Inserted)
	}

	n.conf(append(base, second+",iops_rd=77", "virtio3: "+"local:100/vm-100-disk-3.raw", "net1: e1000=BC:24:11:00:00:02")...)
	n.await("the throttle", func() bool { b := n.block("scsi1").Inserted; return b.IopsRd == 77 && b.Bps == 0 })
	var limits map[string]int64
	n.qmp("qom-get", map[string]any{"path": "/objects/throttle-drive-scsi1", "property": "limits"}, &limits)
	if limits["iops-read"] != 77 || limits["bps-total"] != 0 {
		t.Errorf("throttle group has %v", limits)
	}

	n.conf(append(base, "virtio3: "+"local:100/vm-100-disk-3.raw", "net1: e1000=BC:24:11:00:00:02")...)
	n.await("scsi1 to go", func() bool { return !n.devices()["scsi1"] })
	n.settled()
	n.conf(append(base, second, "virtio3: "+"local:100/vm-100-disk-3.raw", "net1: e1000=BC:24:11:00:00:02")...)
	n.await("scsi1 to come back", func() bool { return n.devices()["scsi1"] })

	// No guest system runs that could release a PCI device.
	n.conf(append(base, second)...)
	n.await("net1 and virtio3 to wait", func() bool {
		return n.status("pending") == "net1: waits for the guest to release the device; virtio3: waits for the guest to release the device"
	})
}

func TestCPUsAndMemoryGrowLive(t *testing.T) {
	n := newNode(t)
	lines := func(vcpus, memory int) []string {
		return []string{"vga: none", "cores: 4", fmt.Sprintf("vcpus: %d", vcpus), "numa: 1", fmt.Sprintf("memory: %d", memory), "hotplug: cpu,memory"}
	}
	n.conf(lines(2, 1024)...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	n.conf(lines(3, 2048)...)
	n.await("a third CPU and two DIMMs", func() bool {
		d := n.devices()
		return d["cpu3"] && d["dimm1"] && !d["dimm2"]
	})
	n.settled()
	var memory struct {
		Base    int64 `json:"base-memory"`
		Plugged int64 `json:"plugged-memory"`
	}
	n.qmp("query-memory-size-summary", nil, &memory)
	if memory.Base != 1<<30 || memory.Plugged != 1<<30 {
		t.Errorf("memory %+v", memory)
	}
}

func TestHugePagesAreSetAsideAndGivenBack(t *testing.T) {
	before, err := pages.Counter(2048, "nr_hugepages")
	if err != nil || os.Getuid() != 0 {
		t.Skipf("no huge pages here: %v", err)
	}
	n := newNode(t)
	n.conf(append(small, "numa: 1", "hugepages: 2", "startup: down=0")...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")
	if during, _ := pages.Counter(2048, "nr_hugepages"); during < 32 {
		t.Errorf("%d huge pages for a guest of 64 MiB", during)
	}
	n.power(Stopped)
	n.awaitStatus("guest", "stopped")
	if after, _ := pages.Counter(2048, "nr_hugepages"); after != before {
		t.Errorf("%d huge pages left, were %d", after, before)
	}
}

func TestMediumLinkAndBalloonChangeLive(t *testing.T) {
	n := newNode(t)
	n.must(os.MkdirAll(filepath.Join(n.images, "template/iso"), 0o755))
	for _, name := range []string{"a.iso", "b.iso"} {
		n.must(os.WriteFile(filepath.Join(n.images, "template/iso", name), make([]byte, 1<<20), 0o600))
	}
	nic := "net0: virtio=BC:24:11:00:00:01"
	n.conf(append(small, nic, "ide2: none,media=cdrom")...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	for _, name := range []string{"a.iso", "b.iso"} {
		n.conf(append(small, nic, "ide2: local:iso/"+name+",media=cdrom")...)
		n.await(name, func() bool {
			b := n.block("ide2")
			return b.Inserted != nil && strings.Contains(b.Inserted.File, name) && !b.TrayOpen
		})
	}
	n.conf(append(small, nic+",link_down=1", "ide2: none,media=cdrom", "balloon: 32")...)
	n.await("an empty drive", func() bool { return n.block("ide2").Inserted == nil })
	n.settled()
	if r, _, err := n.agent.records().Load(100); err != nil || r.Balloon != 32 || r.Config["net0"] != "virtio=BC:24:11:00:00:01,link_down=1" {
		t.Errorf("record %+v, %v", r, err)
	}
	var net []struct{ Name string }
	n.qmp("query-rx-filter", nil, &net)
	if len(net) != 1 || net[0].Name != "net0" {
		t.Errorf("query-rx-filter: %+v", net)
	}
}

func TestNewAgentTakesOver(t *testing.T) {
	n := newNode(t)
	n.conf(small...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")
	pid := n.status("pid")
	n.stop()
	n.conf(append(small, "scsi1: "+n.image("vm-100-disk-1.raw"), "sockets: 2")...)
	n.begin()
	n.awaitStatus("pending", "sockets: needs restart")
	if !n.devices()["scsi1"] || n.status("pid") != pid {
		t.Errorf("after take-over: pid %s, was %s; devices %v", n.status("pid"), pid, n.devices())
	}
}

func TestAgentKilledDuringAStartIsMadeUpFor(t *testing.T) {
	n := newNode(t)
	n.conf(small...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")
	pid := n.status("pid")
	n.stop()
	agent := n.agent
	n.must(agent.records().Update(100, func(r *record.Record) { r.Process, r.Begun = host.Process{}, false }))
	n.must(os.Remove(filepath.Join(n.tree, ".status/nodes/n1/qemu-server/100.conf")))
	n.begin()
	n.awaitStatus("guest", "running")
	if n.status("pid") != pid {
		t.Errorf("pid %s, was %s", n.status("pid"), pid)
	}
}

func TestCrashIsSeenAndNotRestarted(t *testing.T) {
	n := newNode(t)
	n.conf(small...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")
	r, _, err := n.agent.records().Load(100)
	n.must(err)
	n.must(host.Proc.Signal(r.Process, syscall.SIGKILL))
	n.awaitStatus("guest", "crashed")
	n.awaitStatus("state", "pending")
	if reason := n.status("reason"); !strings.Contains(reason, fmt.Sprint(r.Process.PID)) {
		t.Errorf("reason %q", reason)
	}
	n.power(Running)
	n.awaitStatus("guest", "running")
}

func TestQuitFromOutsideWritesPowerOff(t *testing.T) {
	n := newNode(t)
	n.conf(small...)
	n.power(Running)
	n.begin()
	n.awaitStatus("guest", "running")
	n.qmp("quit", nil, nil)
	n.awaitStatus("guest", "stopped")
	if content, err := os.ReadFile(filepath.Join(n.tree, "power/100")); err != nil || string(content) != "stopped\n" {
		t.Errorf("power/100 = %q, %v", content, err)
	}
}

func TestFailedStartNamesTheKey(t *testing.T) {
	n := newNode(t)
	n.conf(append(small, "scsi0: local:100/missing.raw")...)
	n.power(Running)
	n.begin()
	n.await("the error", func() bool {
		return strings.HasPrefix(n.status("error"), "nodes/n1/qemu-server/100.conf:5: scsi0: ")
	})
	n.conf(append(small, "args: -device nonsense")...)
	n.await("QEMU's own words", func() bool { return strings.Contains(n.status("error"), "'nonsense' is not a valid device") })
	n.conf(small...)
	n.awaitStatus("guest", "running")
}

func TestOnlyOnbootGuestsStartAfterABoot(t *testing.T) {
	n := newNode(t)
	n.must(os.WriteFile(filepath.Join(n.run, "boot-id"), []byte("boot-0\n"), 0o600))
	n.conf(small...)
	n.power(Running)
	long := time.Now().Add(-time.Hour)
	n.must(os.Chtimes(filepath.Join(n.tree, "power/100"), long, long))
	n.write("nodes/n1/qemu-server/101.conf", strings.Join(append(small, "onboot: 1"), "\n")+"\n")
	n.begin()
	power := func(vmid string) string {
		content, _ := os.ReadFile(filepath.Join(n.tree, "power", vmid))
		return strings.TrimSpace(string(content))
	}
	n.await("power files", func() bool { return power("100") == "stopped" && power("101") == "running" })
	n.await("guest 101", func() bool {
		content, _ := os.ReadFile(filepath.Join(n.tree, ".status/nodes/n1/qemu-server/101.conf"))
		return strings.Contains(string(content), "guest: running")
	})
	n.awaitStatus("guest", "stopped")
}

func TestGuestOfHAWaitsForItAfterABoot(t *testing.T) {
	n := newNode(t)
	n.must(os.MkdirAll(filepath.Join(n.tree, "ha"), 0o755))
	n.write("ha/resources.cfg", "vm: 100\n\tstate started\n")
	n.conf(small...)
	n.power(Running)
	long := time.Unix(1, 0)
	n.must(os.Chtimes(filepath.Join(n.tree, "power/100"), long, long))
	n.write("nodes/n1/qemu-server/101.conf", strings.Join(append(small, "onboot: 1"), "\n")+"\n")
	n.begin()
	n.await("the start-up after the boot", func() bool {
		content, _ := os.ReadFile(filepath.Join(n.tree, ".status/nodes/n1/qemu-server/101.conf"))
		return strings.Contains(string(content), "guest: running")
	})
	n.awaitStatus("guest", "stopped")
	n.power(Running)
	n.awaitStatus("guest", "running")
}
