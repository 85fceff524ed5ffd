package iptables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/firewalltest"
	"etcpve/agents/firewall/scenario"
	"etcpve/agents/host"
	"etcpve/fixtures/golden"
)

// A packet that does not arrive in time was dropped; on these links it takes
// some microseconds. Before a test fails for that, the packet is sent again with
// more patience: the machine may be busy.
const (
	patience     = 60 * time.Millisecond
	morePatience = 20 * time.Second
)

// A machine is a network namespace with one interface: a guest, or what is
// outside. The node itself is the namespace of the test.
type machine struct {
	name, mac string
	port      string // the other end of the interface
	link      string // filtered NICs: the number part of fwbr, fwln and fwpr
}

var machines = []machine{
	{name: "outside", port: "eth0"},
	{name: "nfvm", port: "tapXYZ"},
	{name: "vm100", mac: "0e:0b:38:b8:b3:21", port: "tap100i0", link: "100i0"},
	{name: "vm101", mac: "0e:0b:38:b8:b3:22", port: "tap101i0", link: "101i0"},
	{name: "ct200", mac: "0e:18:24:41:2c:43", port: "veth200i0", link: "200i0"},
	{name: "ct201", mac: "0e:18:24:41:2c:44", port: "veth201i0", link: "201i0"},
}

// buildNetwork connects all machines to vmbr0 the way a node connects guests:
// filtered NICs through a bridge of their own.
func buildNetwork(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, "mount -t tmpfs none /run/netns")
	sh(t, "ip link set lo up")
	bridge(t, "vmbr0")
	quiet(t, "")
	sh(t, "ip addr add 172.16.1.2/24 dev vmbr0")
	sh(t, "ip addr add fd00::2/64 dev vmbr0 nodad")
	sh(t, "ip route add default dev vmbr0")
	sh(t, "ip -6 route add default dev vmbr0")
	for i, m := range machines {
		sh(t, "ip netns add "+m.name)
		quiet(t, "ip netns exec "+m.name+" ")
		sh(t, fmt.Sprintf("ip link add %s type veth peer name lan netns %s", m.port, m.name))
		in := "ip -n " + m.name + " "
		if m.mac != "" {
			sh(t, in+"link set lan address "+m.mac)
		}
		sh(t, in+"link set lan up")
		// An interface without any address would lose its routes.
		sh(t, fmt.Sprintf("%saddr add 198.18.0.%d/32 dev lan", in, i+1))
		sh(t, in+"route add default dev lan")
		sh(t, in+"-6 route add default dev lan")
		attach(t, m)
	}
}

func attach(t *testing.T, m machine) {
	if m.link == "" {
		sh(t, "ip link set "+m.port+" master vmbr0 up")
		return
	}
	peer := "fwpr" + strings.Replace(m.link, "i", "p", 1)
	bridge(t, "fwbr"+m.link)
	sh(t, "ip link set "+m.port+" master fwbr"+m.link+" up")
	sh(t, "ip link add fwln"+m.link+" type veth peer name "+peer)
	sh(t, "ip link set fwln"+m.link+" master fwbr"+m.link+" up")
	sh(t, "ip link set "+peer+" master vmbr0 up")
}

// quiet switches off what would delay or refuse packets in a namespace.
func quiet(t *testing.T, prefix string) {
	for _, s := range []string{"ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0", "ipv4.icmp_ratelimit=0", "ipv6.icmp.ratelimit=0", "ipv6.conf.all.accept_dad=0", "ipv6.conf.default.accept_dad=0", "ipv6.conf.default.dad_transmits=0"} {
		sh(t, prefix+"sysctl -q -w net."+s)
	}
}

func bridge(t *testing.T, name string) {
	sh(t, "ip link add "+name+" type bridge forward_delay 0 mcast_snooping 0")
	sh(t, "ip link set "+name+" up")
}

// within runs f in a machine's namespace; sockets that f opens stay there.
func within(t *testing.T, name string, f func() error) error {
	t.Helper()
	if name == "host" {
		return f()
	}
	failed := make(chan error)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + name)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	return <-failed
}

// addressed gives a machine an address for the length of a test.
func addressed(t *testing.T, name string, a netip.Addr) (remove func()) {
	prefix, device := "ip -n "+name+" ", "lan"
	if name == "host" {
		prefix, device = "ip ", "vmbr0"
	}
	if name == "host" && (a.String() == "172.16.1.2" || a.String() == "fd00::2") {
		return func() {}
	}
	what := fmt.Sprintf("%s/%d dev %s", a, a.BitLen(), device)
	if a.Is6() {
		sh(t, prefix+"addr add "+what+" nodad")
	} else {
		sh(t, prefix+"addr add "+what)
	}
	return func() { sh(t, prefix+"addr del "+what) }
}

// forget makes machines ask anew who has an address.
func forget(t *testing.T, names ...string) {
	for _, name := range names {
		if name == "host" {
			sh(t, "ip neigh flush all")
		} else {
			sh(t, "ip -n "+name+" neigh flush all")
		}
	}
}

// deliver sends a real packet and says what became of it.
func deliver(t *testing.T, p firewall.Packet, from, to string, patience time.Duration) firewall.Verdict {
	t.Helper()
	defer addressed(t, from, p.Source)()
	defer addressed(t, to, p.Dest)()
	forget(t, from, to)
	port := p.DestPort
	if port == firewall.NoPort {
		port = 40000
	}
	target := net.JoinHostPort(p.Dest.String(), fmt.Sprint(port))
	if p.Protocol == "udp" {
		return deliverUDP(t, p, from, to, target, patience)
	}
	return deliverTCP(t, p, from, to, target, patience)
}

func deliverTCP(t *testing.T, p firewall.Packet, from, to, target string, patience time.Duration) firewall.Verdict {
	var listener net.Listener
	if err := within(t, to, func() (err error) { listener, err = net.Listen("tcp", target); return err }); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: p.Source.AsSlice(), Port: max(p.SourcePort, 0)}}
	err := within(t, from, func() error {
		c, err := dialer.Dial("tcp", target)
		if err == nil {
			c.Close()
		}
		return err
	})
	return verdict(t, err)
}

func deliverUDP(t *testing.T, p firewall.Packet, from, to, target string, patience time.Duration) firewall.Verdict {
	var server net.PacketConn
	if err := within(t, to, func() (err error) { server, err = net.ListenPacket("udp", target); return err }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var client net.Conn
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: p.Source.AsSlice(), Port: max(p.SourcePort, 0)}}
	if err := within(t, from, func() (err error) { client, err = dialer.Dial("udp", target); return err }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// Nobody sends a datagram again that is lost while a neighbour is looked for, nor an
	// answer to it, as TCP does.
	for end := time.Now().Add(patience); ; {
		if _, err := client.Write([]byte("?")); err != nil {
			return verdict(t, err)
		}
		_ = server.SetReadDeadline(time.Now().Add(min(patience, time.Second)))
		if _, _, err := server.ReadFrom(make([]byte, 1)); err == nil {
			return firewall.Accept
		}
		_ = client.SetReadDeadline(time.Now().Add(min(patience, time.Second) / 4))
		_, err := client.Read(make([]byte, 1))
		if got := verdict(t, err); got != firewall.Drop || time.Now().After(end) {
			return got
		}
	}
}

func verdict(t *testing.T, err error) firewall.Verdict {
	var timeout net.Error
	switch {
	case err == nil:
		return firewall.Accept
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES):
		return firewall.Reject
	case errors.Is(err, syscall.EPERM), errors.As(err, &timeout) && timeout.Timeout():
		return firewall.Drop
	}
	t.Fatal(err)
	return ""
}

// deliverable reports whether a test can be a real packet in this network: the
// kernel itself decides on kinds of addresses, and every zone is on vmbr0.
func deliverable(x scenario.Test) bool {
	zones := []string{"host"}
	for _, m := range machines {
		zones = append(zones, m.name)
	}
	source, err := netip.ParseAddr(x.Source)
	return slices.Contains(zones, x.From) && slices.Contains(zones, x.To) &&
		(x.Proto == "tcp" || x.Proto == "udp") &&
		x.SrcType == "UNICAST" && x.DstType == "UNICAST" && x.MAC == "" && x.State == "NEW" && x.Flags == "SYN" &&
		x.Sport != "0" && (x.Source == "" || err == nil && !source.IsMulticast() && !source.IsUnspecified() && !source.IsLoopback() && !source.IsLinkLocalUnicast())
}

// send sends the packets of a scenario through the kernel, as far as they can be
// real, and counts them.
func send(t *testing.T, s *scenario.Scenario, sent map[string]int, check func(x scenario.Test, err error)) {
	t.Helper()
	for _, x := range s.Tests {
		for _, way := range x.Ways() {
			x.From, x.To = zone(way[0]), zone(way[1])
			if !deliverable(x) || x.From == x.To || unanswered(x) {
				sent["not sent"]++
				continue
			}
			p, err := x.Packet(x.From, x.To)
			if err != nil {
				t.Fatal(err)
			}
			sent[filepath.Base(s.Dir)]++
			if p.Source.Is6() {
				sent["IPv6"]++
			}
			got := deliver(t, p, x.From, x.To, patience)
			if got != x.Action {
				got = deliver(t, p, x.From, x.To, morePatience)
			}
			if got != x.Action {
				err = fmt.Errorf("from %s to %s: %s: the kernel says %s", x.From, x.To, x.Text, got)
			}
			check(x, err)
		}
	}
}

// unanswered reports whether the kernel refuses a packet without the sender
// learning of it: on its way back the answer passes the bridge of a sender that
// has one of its own, where it is dropped as invalid. The ICMP error for UDP
// belongs to no connection there; the reset for TCP ended the connection on the
// bridge before.
func unanswered(x scenario.Test) bool {
	return x.Action == firewall.Reject && ownBridge(x.From) && (ownBridge(x.To) || x.Proto == "udp" && x.To == "host")
}

func ownBridge(name string) bool {
	return slices.ContainsFunc(machines, func(m machine) bool { return m.name == name && m.link != "" })
}

// zone returns the machine that a zone is in the test's network.
func zone(name string) string {
	if name == "vmbr0/eth0" {
		return "outside"
	}
	return name
}

// TestKernelAnswersAsSimulated sends the packets of whole scenarios through the
// kernel.
func TestKernelAnswersAsSimulated(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	buildNetwork(t)
	for name, d := range drivers(t) {
		sent := map[string]int{}
		dirs := []string{"groups", "ipfilter"}
		if !d.Legacy {
			dirs = append(dirs, "ipv6", "off", "guest-options", "intake", "names", "host-rules")
		}
		for _, dir := range dirs {
			s, err := scenario.Load("../../../fixtures/firewall/" + dir)
			if err != nil {
				t.Fatal(err)
			}
			reach(t, d, s.Rules())
			send(t, s, sent, func(_ scenario.Test, err error) {
				if err != nil {
					t.Errorf("%s: %s: %v", name, dir, err)
				}
			})
		}
		reach(t, d, &firewall.Ruleset{})
		t.Log(name, "sent", sent)
	}
}

// TestKernelAnswersGolden sends the packets of the golden directories through
// the kernel.
func TestKernelAnswersGolden(t *testing.T) {
	root := golden.Dir(t, "firewall")
	if !firewalltest.InNamespace(t) {
		return
	}
	dirs, err := filepath.Glob(filepath.Join(root, "*", "tests"))
	if err != nil || len(dirs) == 0 {
		t.Skip("no directories with tests in", root)
	}
	buildNetwork(t)
	d, sent := &Driver{Runner: host.System{}}, map[string]int{}
	for _, file := range dirs {
		s, err := scenario.Load(filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		reach(t, d, s.Rules())
		send(t, s, sent, func(x scenario.Test, err error) {
			if err != nil {
				t.Errorf("%s:%d: %v", filepath.Base(s.Dir), x.Line, err)
			}
		})
	}
	reach(t, d, &firewall.Ruleset{})
	t.Log("sent", sent)
}
