package firewall

import (
	"net/netip"
	"strings"

	fw "etcpve/cfs/format/firewall"
)

// NoPort stands in a Packet for a port that it has not.
const NoPort = -1

// A Packet is what the rules can see of a packet at one check point.
type Packet struct {
	FrameType            string // IPv4, IPv6, ARP
	In, Out              string // interfaces; of bridged packets the bridge
	Bridged              bool
	PortIn, PortOut      string // ports of the bridge, for bridged packets
	Protocol             string
	Source, Dest         netip.Addr
	SourcePort, DestPort int
	ICMPType             string // name or number
	SourceType, DestType string // UNICAST, BROADCAST, MULTICAST, ANYCAST
	LinkType             string // unicast, broadcast, multicast
	SourceMAC            string // "": the right one
	State                string // of its connection: NEW, ESTABLISHED, RELATED, INVALID
	Flags                string // of TCP: SYN,ACK

	marked bool
}

// A Verdict is what becomes of a packet.
type Verdict string

// The verdicts.
const (
	Accept Verdict = "ACCEPT"
	Drop   Verdict = "DROP"
	Reject Verdict = "REJECT"

	undecided Verdict = ""
)

// A Trace is called for every rule that a packet fulfils.
type Trace func(chain string, r Rule)

// Send passes a packet through one of the kernel's own chains (INPUT, OUTPUT,
// FORWARD) of a table. What nothing decides is accepted. The trace may be nil.
func (r *Ruleset) Send(p Packet, family Family, table, base string, trace Trace) Verdict {
	w := walk{rules: r, table: r.Table(family, table), packet: &p, trace: trace}
	for _, h := range w.table.Hooks() {
		if h.From != base {
			continue
		}
		if v := w.chain(h.To); v != undecided {
			return v
		}
	}
	return Accept
}

// A walk is one packet's way through one table.
type walk struct {
	rules  *Ruleset
	table  Table
	packet *Packet
	trace  Trace
}

func (w *walk) chain(name string) Verdict {
	for _, r := range w.table.Chains[name] {
		if !w.holds(r) {
			continue
		}
		if w.trace != nil {
			w.trace(name, r)
		}
		verdict, leave := w.apply(r.Target)
		if verdict != undecided || leave {
			return verdict
		}
	}
	return undecided
}

func (w *walk) holds(r Rule) bool {
	for _, c := range r.Conditions {
		if !c.Holds(w.packet, w.rules) {
			return false
		}
	}
	return true
}

// apply carries out a target and says whether the chain ends with it.
func (w *walk) apply(t Target) (v Verdict, leave bool) {
	switch t.Name {
	case "ACCEPT", "DROP", "REJECT":
		return Verdict(t.Name), true
	case "RETURN":
		return undecided, true
	case "MARK":
		w.packet.marked = t == setMark
		return undecided, false
	case "NFLOG", "CT", "":
		return undecided, false
	}
	return w.chain(t.Name), t.Goto
}

// sameProtocol compares two protocols by number, in whatever way each is
// written.
func sameProtocol(a, b string) bool {
	return a == b || fw.ProtocolNumber(a) == fw.ProtocolNumber(b)
}

// String returns the target in the syntax of iptables.
func (t Target) String() string {
	switch {
	case t.Name == "":
		return ""
	case t.Goto:
		return "-g " + t.Name
	}
	return strings.TrimSuffix("-j "+t.Name+" "+t.Options, " ")
}
