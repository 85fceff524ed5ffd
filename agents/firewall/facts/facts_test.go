package facts

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"etcpve/agents/firewall"
)

type tree struct {
	*testing.T
	Reader
}

func newTree(t *testing.T) *tree {
	l := &tree{t, Reader{Tree: t.TempDir(), Node: "n1", Keep: t.TempDir(), Addresses: func() ([]netip.Prefix, error) {
		return []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("10.7.0.1/20")}, nil
	}}}
	l.write("corosync.conf", "totem {\n transport: knet\n}\nnodelist {\n node {\n name: n1\n nodeid: 1\n ring0_addr: 10.7.0.1\n}\n node {\n name: n2\n nodeid: 2\n ring0_addr: 10.7.0.2\n ring1_addr: 10.8.0.2\n}\n}\n")
	l.write("nodes/n1/qemu-server/100.conf", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1\nnet2: e1000=BC:24:11:00:00:02,bridge=vmbr1,tag=5\n\n[snap]\nnet3: virtio=BC:24:11:00:00:04,bridge=vmbr0\n")
	l.write("nodes/n1/lxc/200.conf", "net0: name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:00:00:03,ip=10.0.0.2/24,ip6=auto,type=veth\n")
	return l
}

func (l *tree) write(path, content string) {
	l.Helper()
	full := filepath.Join(l.Tree, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		l.Fatal(err)
	}
}

func (l *tree) read() Facts {
	l.Helper()
	f, err := l.Read()
	if err != nil {
		l.Fatal(err)
	}
	return f
}

func TestGuestsAndNetworksAreFound(t *testing.T) {
	f := newTree(t).read()
	if len(f.Guests) != 2 || len(f.Guests[0].NICs) != 2 || len(f.Guests[1].NICs) != 1 {
		t.Fatalf("guests: %+v", f.Guests)
	}
	if n := f.Guests[0].NICs[0]; n.MAC != "BC:24:11:00:00:01" || n.Bridge != "vmbr0" || !n.Firewall {
		t.Errorf("vm: %+v", n)
	}
	if n := f.Guests[0].NICs[1]; n.Number != 2 || n.Firewall {
		t.Errorf("vm, second NIC: %+v", n)
	}
	if n := f.Guests[1].NICs[0]; !f.Guests[1].Container || n.MAC != "BC:24:11:00:00:03" || len(n.Addresses) != 1 {
		t.Errorf("container: %+v", n)
	}
	if len(f.Node.LocalNetworks) != 1 || f.Node.LocalNetworks[0].String() != "10.7.0.0/20" {
		t.Errorf("local networks: %v", f.Node.LocalNetworks)
	}
	if len(f.Node.Rings) != 1 || len(f.Node.Rings[0].Peers) != 1 || f.Node.Transport != "knet" {
		t.Errorf("rings: %+v", f.Node)
	}
}

func TestBrokenFilesNeverOpenTheFirewall(t *testing.T) {
	const good = "[OPTIONS]\nenable: 1\npolicy_in: REJECT\n[RULES]\nIN ACCEPT -p tcp -dport 22\n"
	for name, broken := range map[string]string{
		"unreadable switch": "[OPTIONS]\nenable: ja\n",
		"unreadable rule":   "[OPTIONS]\nenable: 1\npolicy_in: ACCEPT\n[RULES]\nIN DORP\n",
		"noise":             "\x00\x01\x02",
		"cut off":           good[:len(good)-8],
	} {
		l := newTree(t)
		l.write("firewall/cluster.fw", good)
		want, _ := firewall.Compile(l.read().Input)
		l.write("firewall/cluster.fw", broken)
		f := l.read()
		if got, _ := firewall.Compile(f.Input); got.String() != want.String() {
			t.Errorf("%s: the rules changed to\n%s", name, got)
		}
		if len(f.Files) != 1 || !f.Files[0].Kept || len(f.Files[0].Problems) == 0 {
			t.Errorf("%s: not told: %+v", name, f.Files)
		}
		// A new process knows the good version too.
		again := &Reader{Tree: l.Tree, Node: l.Node, Keep: l.Keep, Addresses: l.Addresses}
		g, err := again.Read()
		if got, _ := firewall.Compile(g.Input); err != nil || got.String() != want.String() {
			t.Errorf("%s: after a restart: %v, the rules changed to\n%s", name, err, got)
		}
	}
}

func TestUnreadableOptionsFailClosed(t *testing.T) {
	l := newTree(t)
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: on\npolicy_in: accept it\npolicy_out: ACCEPT\n")
	f := l.read()
	for name, want := range map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT"} {
		if got, _ := f.Cluster.Option(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAbsenceIsBelievedOnlyInATree(t *testing.T) {
	l := newTree(t)
	l.write("firewall/cluster.fw", "[OPTIONS]\nenable: 1\n")
	l.read()
	if err := os.Rename(l.Tree, l.Tree+".away"); err != nil {
		t.Fatal(err)
	}
	if f, err := l.Read(); err == nil {
		t.Errorf("read from a tree that is not there: %+v", f)
	}
}
