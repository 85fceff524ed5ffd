package node

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/firewall/firewalltest"
)

// A lab is a tree with a running agent.
type lab struct {
	*testing.T
	tree  string
	agent *Agent
	stop  func()
}

func newLab(t *testing.T) *lab {
	l := &lab{T: t, tree: t.TempDir()}
	for _, dir := range []string{"firewall", "nodes/n1/qemu-server", "nodes/n1/lxc", ".status"} {
		if err := os.MkdirAll(filepath.Join(l.tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.write("nodes/n1/qemu-server/100.conf", "name: a\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1\nnet1: virtio=BC:24:11:00:00:02,bridge=vmbr1\n")
	l.write("nodes/n1/lxc/200.conf", "hostname: b\nnet0: name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:00:00:03,ip=10.0.0.2/24,type=veth\n")
	l.agent = New(Options{Tree: l.tree, Node: "n1", Run: t.TempDir(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	l.start()
	return l
}

func (l *lab) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.agent.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			l.Error(err)
		}
	}
}

func (l *lab) write(path, content string) {
	l.Helper()
	if err := os.WriteFile(filepath.Join(l.tree, path), []byte(content), 0o644); err != nil {
		l.Fatal(err)
	}
}

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = 2 * time.Minute

// until waits for a rule to be there, or not to be, and says how long it took.
func (l *lab) until(there bool, rule string) {
	l.Helper()
	begin := time.Now()
	for time.Since(begin) < patience {
		out, err := exec.Command("iptables-save").Output()
		if err != nil {
			l.Fatal(err)
		}
		if strings.Contains(string(out), rule) == there {
			l.Logf("%v: %q: %v", time.Since(begin).Round(time.Millisecond), rule, there)
			return
		}
	}
	out, _ := exec.Command("iptables-save").Output()
	l.Fatalf("%q there is not %v:\n%s", rule, there, out)
}

func (l *lab) status(path, want string) {
	l.Helper()
	var got []byte
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
		if got, _ = os.ReadFile(filepath.Join(l.tree, ".status", path)); strings.Contains(string(got), want) {
			return
		}
	}
	l.Fatalf("status of %s says no %q:\n%s", path, want, got)
}

const port = "--dport 4242 -j ACCEPT"

func TestEditsReachTheKernel(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	l := newLab(t)
	defer func() { l.stop() }()
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: 1\n")
	l.until(true, "-A INPUT -j PVEFW-INPUT")
	l.write("firewall/100.fw", "[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -p tcp -dport 4242\n")
	l.until(true, "-A tap100i0-IN -p tcp -m tcp "+port)
	l.status("firewall/100.fw", "state: applied")

	l.write("firewall/100.fw", "[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -p tcp -dport 4343\nIN DROP -source nobody\n")
	l.status("firewall/100.fw", "pending: line 5")
	l.until(false, port)

	l.write("nodes/n1/host.fw", "[OPTIONS]\nnftables: 1\n")
	l.status("nodes/n1/host.fw", "pending: nftables: has no effect")

	// What cannot be read leaves in force what was there.
	l.write("firewall/100.fw", "[OPTIONS]\nenable: perhaps\n")
	l.status("firewall/100.fw", "state: failed")
	l.until(true, "--dport 4343 -j ACCEPT")
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: never\n")
	l.status("firewall/cluster.fw", "pending: line 2")
	l.until(true, "-A INPUT -j PVEFW-INPUT")

	// The rules outlive the agent, and a new one knows the last good files.
	l.stop()
	l.until(true, "--dport 4343 -j ACCEPT")
	l.agent = New(l.agent.Options)
	l.start()
	l.status("firewall/100.fw", "state: failed")
	l.until(true, "--dport 4343 -j ACCEPT")

	// A guest that goes takes its chains with it.
	if err := os.Remove(filepath.Join(l.tree, "nodes/n1/qemu-server/100.conf")); err != nil {
		t.Fatal(err)
	}
	l.until(false, "tap100i0")

	if err := l.agent.Switch.Stop(); err != nil {
		t.Fatal(err)
	}
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: 1\n\n")
	l.until(false, "PVEFW")
	if err := l.agent.Switch.Start(); err != nil {
		t.Fatal(err)
	}
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: 1\n")
	l.until(true, "PVEFW")
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: 0\n")
	l.until(false, "PVEFW")
}
