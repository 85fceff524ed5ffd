package iptables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
)

// patience is how long a packet may take. One that does not arrive by then was
// dropped; on these links it takes some microseconds.
const patience = 200 * time.Millisecond

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
	for _, s := range []string{"ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0", "ipv6.conf.all.accept_dad=0", "ipv6.conf.default.accept_dad=0", "ipv6.conf.default.dad_transmits=0"} {
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

// forget makes every machine ask anew who has an address.
func forget(t *testing.T) {
	sh(t, "ip neigh flush all")
	for _, m := range machines {
		sh(t, "ip -n "+m.name+" neigh flush all")
	}
}

// deliver sends a real packet and says what became of it.
func deliver(t *testing.T, p firewall.Packet, from, to string) firewall.Verdict {
	t.Helper()
	defer addressed(t, from, p.Source)()
	defer addressed(t, to, p.Dest)()
	forget(t)
	port := p.DestPort
	if port == firewall.NoPort {
		port = 40000
	}
	target := net.JoinHostPort(p.Dest.String(), fmt.Sprint(port))
	if p.Protocol == "udp" {
		return deliverUDP(t, p, from, to, target)
	}
	return deliverTCP(t, p, from, to, target)
}

func deliverTCP(t *testing.T, p firewall.Packet, from, to, target string) firewall.Verdict {
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

func deliverUDP(t *testing.T, p firewall.Packet, from, to, target string) firewall.Verdict {
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
	if _, err := client.Write([]byte("?")); err != nil {
		return verdict(t, err)
	}
	_ = server.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := server.ReadFrom(make([]byte, 1)); err == nil {
		return firewall.Accept
	}
	_ = client.SetReadDeadline(time.Now().Add(patience / 4))
	_, err := client.Read(make([]byte, 1))
	return verdict(t, err)
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
		x.Sport != "0" && (x.Source == "" || err == nil && !source.IsMulticast() && !source.IsUnspecified() && !source.IsLinkLocalUnicast())
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
		for _, dir := range []string{"off", "groups", "guest-options", "ipfilter", "intake", "names", "host-rules"} {
			s, err := scenario.Load("../../../fixtures/firewall/" + dir)
			if err != nil {
				t.Fatal(err)
			}
			reach(t, d, s.Rules())
			for _, x := range s.Tests {
				if !deliverable(x) {
					continue
				}
				p, err := x.Packet(x.From, x.To)
				if err != nil {
					t.Fatal(err)
				}
				sent[dir]++
				if p.Source.Is6() {
					sent["IPv6"]++
				}
				if got := deliver(t, p, x.From, x.To); got != x.Action {
					t.Errorf("%s: %s: %s: the kernel says %s", name, dir, x.Text, got)
				}
			}
		}
		reach(t, d, &firewall.Ruleset{})
		t.Log(name, "sent", sent)
	}
}
