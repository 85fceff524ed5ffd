package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
)

// A node is a whole node of its own: executables built from the checkout, a
// tree, and a guest made from Debian's kernel. Its VMs run under TCG.
type node struct {
	*testing.T
	dir, tree, run, guest string // run is short, because it is part of socket addresses
	agents                *exec.Cmd
}

// newNode prepares a node on a plain directory.
func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("running guests needs root")
	}
	for _, program := range []string{"qemu-system-x86_64", "busybox", "cpio", "depmod"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	run, err := os.MkdirTemp("", "pa")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, dir: t.TempDir(), run: run}
	n.tree, n.guest = filepath.Join(n.dir, "pve"), filepath.Join(n.dir, "guest")
	t.Cleanup(n.end)
	n.must(exec.Command("../../contrib/guest/make-initrd", n.guest).Run())
	n.must(exec.Command("go", "build", "-o", n.dir+"/pveagent", ".").Run())
	return n
}

// plain makes the tree a directory without a file system of its own.
func (n *node) plain() {
	n.Helper()
	for _, dir := range []string{"nodes/n1/qemu-server", "nodes/n1/tasks", "power", ".status"} {
		n.must(os.MkdirAll(filepath.Join(n.tree, dir), 0o755))
	}
}

// mounted mounts the real file system.
func (n *node) mounted() {
	n.Helper()
	n.must(os.MkdirAll(n.tree, 0o755))
	n.must(exec.Command("go", "build", "-o", n.dir+"/pmxcfs", "../../cfs/pmxcfs").Run())
	fs := exec.Command(n.dir+"/pmxcfs", "-f", "--mount", n.tree, "--db", n.dir+"/config.db", "--node", "n1")
	said := &output{}
	fs.Stdout, fs.Stderr = said, said
	n.must(fs.Start())
	ended := make(chan error, 1)
	go func() { ended <- fs.Wait() }()
	n.Cleanup(func() {
		n.must(fs.Process.Signal(syscall.SIGTERM))
		<-ended
		if n.Failed() {
			n.Logf("pmxcfs said:\n%s", said)
		}
	})
	n.await("the mount", func() bool {
		_, err := os.Stat(n.tree + "/.version")
		return err == nil
	})
	for _, dir := range []string{"nodes/n1/qemu-server", "nodes/n1/tasks", "power"} {
		n.must(os.MkdirAll(filepath.Join(n.tree, dir), 0o755))
	}
}

// An output collects what a process says.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// patience is how long a test waits for what is bound to come: guests are emulated, and
// the machine may be busy.
const patience = 3 * time.Minute

func (n *node) await(what string, ok func() bool) {
	n.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.Fatalf("still waiting for %s; status:\n%s", what, n.statusText())
		}
	}
}

// begin starts the agents of VMs and tasks in a process of their own. That of
// the firewall would see to the whole machine.
func (n *node) begin(flags ...string) {
	n.Helper()
	args := append([]string{"--pve", n.tree, "--node", "n1", "--run", n.run, "--no-kvm", "qemu,task"}, flags...)
	n.agents = exec.Command(n.dir+"/pveagent", args...)
	said := &output{}
	n.agents.Stderr = said
	n.must(n.agents.Start())
	n.Cleanup(func() {
		if n.Failed() {
			n.Logf("pveagent said:\n%s", said)
		}
	})
}

// halt ends the agents with a signal and waits for them.
func (n *node) halt(signal syscall.Signal) {
	n.Helper()
	n.must(n.agents.Process.Signal(signal))
	_ = n.agents.Wait() // killed on purpose, at times
	n.agents = nil
}

// end kills what still runs.
func (n *node) end() {
	if n.agents != nil {
		n.halt(syscall.SIGTERM)
	}
	if p, err := n.place().process(100); err == nil && host.Proc.Alive(p) {
		_ = host.Proc.Signal(p, syscall.SIGKILL) // it may be gone
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = host.Proc.WaitExit(ctx, p) // the directory below may keep a file then
	}
	_ = os.RemoveAll(n.run)
}

func (n *node) place() place { return place{Tree: n.tree, Node: "n1", Run: n.run} }

// process returns the guest's QEMU.
func (n *node) process() host.Process {
	n.Helper()
	p, err := n.place().process(100)
	n.must(err)
	return p
}

// example returns the example configuration, for this node's guest.
func (n *node) example() string {
	n.Helper()
	text, err := os.ReadFile("../../contrib/examples/100.conf")
	n.must(err)
	return strings.ReplaceAll(string(text), "/var/lib/etcpve/guest", n.guest)
}

func (n *node) write(path, text string) {
	n.Helper()
	n.must(os.WriteFile(filepath.Join(n.tree, path), []byte(text), 0o640))
}

const conf = "nodes/n1/qemu-server/100.conf"

func (n *node) statusText() string {
	text, _ := os.ReadFile(filepath.Join(n.tree, ".status", conf)) // "" while there is none
	return string(text)
}

func (n *node) awaitStatus(line string) {
	n.Helper()
	n.await(line, func() bool { return strings.Contains(n.statusText(), line+"\n") })
}

// serial listens to the guest's console.
func (n *node) serial() *output {
	n.Helper()
	var conn net.Conn
	n.await("the console", func() (ok bool) {
		c, err := net.Dial("unix", cmdline.RunFile(n.place().guestRun(), 100, "serial0"))
		conn = c
		return err == nil
	})
	said := &output{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			k, err := conn.Read(buffer)
			_, _ = said.Write(buffer[:k]) // cannot fail
			if err != nil {
				return
			}
		}
	}()
	n.Cleanup(func() {
		conn.Close()
		<-done
		if n.Failed() {
			n.Logf("the guest said:\n%s", said)
		}
	})
	return said
}

// qm runs the tool and returns what it printed.
func (n *node) qm(args ...string) string {
	n.Helper()
	cmd := exec.Command(n.dir+"/pveagent", append([]string{"--pve", n.tree, "--node", "n1", "--run", n.run, "qm"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.Fatalf("qm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) qmp(command string, result any) {
	n.Helper()
	m, err := monitor.Dial(n.Context(), cmdline.RunFile(n.place().guestRun(), 100, "qmp"))
	n.must(err)
	defer m.Close()
	n.must(m.Run(n.Context(), command, nil, result))
}

// boot copies the example, writes the power file and waits for the guest.
func (n *node) boot() {
	n.Helper()
	begin := time.Now()
	n.write(conf, n.example())
	n.write("power/100", "running\n")
	console := n.serial()
	n.await("the guest", func() bool { return strings.Contains(console.String(), "guest ready") })
	n.Logf("booted in %.1f s", time.Since(begin).Seconds())
	n.awaitStatus("guest: running")
}

func TestGuestLivesByItsFiles(t *testing.T) {
	for _, where := range []struct {
		name string
		make func(*node)
	}{{"directory", (*node).plain}, {"pmxcfs", (*node).mounted}} {
		t.Run(where.name, func(t *testing.T) {
			n := newNode(t)
			where.make(n)
			n.begin()
			n.boot()
			n.changes()
			n.agentDies()
			n.switchesOff()
			n.crashes()
		})
	}
}

// changes edits the file of the running guest; QEMU has to agree.
func (n *node) changes() {
	n.Helper()
	n.must(os.WriteFile(n.dir+"/more.raw", make([]byte, 1<<20), 0o600))
	edited := strings.Replace(n.example(), "balloon: 256", "balloon: 300", 1)
	n.write(conf, strings.Replace(edited, "scsihw:", "scsi1: "+n.dir+"/more.raw\nscsihw:", 1))
	n.await("scsi1", func() bool {
		var disks []struct {
			Qdev     string
			Inserted struct{ File string }
		}
		n.qmp("query-block", &disks)
		return strings.Contains(fmt.Sprint(disks), "scsi1")
	})
	n.await("the balloon", func() bool {
		var balloon struct{ Actual int64 }
		n.qmp("query-balloon", &balloon)
		return balloon.Actual == 300<<20
	})
	n.awaitStatus("state: applied")
	n.write(conf, edited)
	n.await("scsi1 to go", func() bool {
		var disks any
		n.qmp("query-block", &disks)
		return !strings.Contains(fmt.Sprint(disks), "scsi1")
	})
}

// agentDies: the guest goes on, and a new agent takes it over.
func (n *node) agentDies() {
	n.Helper()
	before := n.process()
	n.halt(syscall.SIGKILL)
	if !host.Proc.Alive(before) {
		n.Fatal("the guest ended with its agent")
	}
	n.begin()
	n.write(conf, strings.Replace(n.example(), "balloon: 256", "balloon: 280", 1))
	n.await("the balloon of the new agent", func() bool {
		var balloon struct{ Actual int64 }
		n.qmp("query-balloon", &balloon)
		return balloon.Actual == 280<<20
	})
	if n.process() != before || !host.Proc.Alive(before) {
		n.Error("the new agent did not take the guest over")
	}
}

// switchesOff: by a file and the ACPI button.
func (n *node) switchesOff() {
	n.Helper()
	p := n.process()
	n.write("power/100", "stopped\n")
	n.await("the guest to switch off", func() bool { return !host.Proc.Alive(p) })
	n.awaitStatus("guest: stopped")
}

// crashes: a guest that dies is seen, shown, and started again when asked to.
func (n *node) crashes() {
	n.Helper()
	n.qm("start", "100")
	p := n.process()
	n.must(host.Proc.Signal(p, syscall.SIGKILL))
	n.awaitStatus("guest: crashed")
	if out := n.qm("status", "100"); out != "status: stopped\n" {
		n.Errorf("qm status: %q", out)
	}
	n.qm("start", "100")
	if out := n.qm("status", "100"); out != "status: running\n" {
		n.Errorf("qm status: %q", out)
	}
	n.qm("stop", "100")
	if out := n.qm("list"); !strings.Contains(out, " 100 first                stopped    512 ") {
		n.Errorf("qm list:\n%s", out)
	}
}

func TestGuestsStopWithTheAgentsIfAsked(t *testing.T) {
	n := newNode(t)
	n.plain()
	n.begin("--guests", "stop")
	n.boot()
	p := n.process()
	n.halt(syscall.SIGTERM)
	if host.Proc.Alive(p) {
		t.Error("the guest still runs")
	}
	text, err := os.ReadFile(filepath.Join(n.tree, "power/100"))
	if string(text) != "stopped\n" || err != nil {
		t.Errorf("power/100 says %q, %v", text, err)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	n := newNode(t)
	n.plain()
	n.write(conf, n.example())
	n.write("power/100", "running\n")
	out, err := exec.Command(n.dir+"/pveagent", "qemu", "--pve", n.tree, "--node", "n1", "--run", n.run, "--dry-run").Output()
	if string(out) != "qemu 100: start\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if p := n.process(); host.Proc.Alive(p) {
		t.Error("the guest was started")
	}
}
