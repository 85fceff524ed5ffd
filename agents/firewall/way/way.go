// Package way asks a node's rule set what becomes of a packet on its way from
// one zone to another: the node itself, the network, a guest, a port of a bridge.
//
// It owns the knowledge of which of the kernel's chains a packet passes on a
// node, with which interfaces and ports. It never decides anything itself; the
// rule set does.
package way

import (
	"fmt"
	"regexp"
	"strconv"

	"etcpve/agents/firewall"
)

// A Zone is where a packet begins or ends.
type Zone struct {
	Name   string
	Bridge string // "" for the node itself
	Port   string // of the bridge

	guest *firewall.Guest
	nic   firewall.NIC
}

// A Map knows the zones of a node.
type Map struct {
	Guests []firewall.Guest
}

// The network beyond the node, and a guest without any firewall.
var places = map[string]Zone{
	"host":    {},
	"outside": {Bridge: "vmbr0", Port: "eth0"},
	"nfvm":    {Bridge: "vmbr0", Port: "tapXYZ"},
}

var (
	guestForm = regexp.MustCompile(`^(vm|ct)(\d{1,9})(?:i(\d{1,2}))?$`)
	portForm  = regexp.MustCompile(`^([^/\s]+)/(\S+)$`)
)

// Zone finds a zone by its name: host, outside, nfvm, vm100, vm100i1, ct200,
// vmbr0/eth0.
func (m Map) Zone(name string) (Zone, error) {
	if z, ok := places[name]; ok {
		z.Name = name
		return z, nil
	}
	if f := portForm.FindStringSubmatch(name); f != nil {
		return Zone{Name: name, Bridge: f[1], Port: f[2]}, nil
	}
	f := guestForm.FindStringSubmatch(name)
	if f == nil {
		return Zone{}, fmt.Errorf("'%s' is not a zone", name)
	}
	vmid, _ := strconv.ParseUint(f[2], 10, 32)
	number, _ := strconv.Atoi(f[3])
	for i, g := range m.Guests {
		if g.VMID != uint32(vmid) || g.Container != (f[1] == "ct") {
			continue
		}
		for _, n := range g.NICs {
			if n.Number == number {
				return m.ofGuest(name, &m.Guests[i], n), nil
			}
		}
	}
	return Zone{}, fmt.Errorf("no guest with a network interface is called '%s'", name)
}

// ofGuest returns the zone of a NIC. Without the firewall the guest is a port
// of its bridge like any other.
func (m Map) ofGuest(name string, g *firewall.Guest, n firewall.NIC) Zone {
	z := Zone{Name: name, Bridge: n.Bridge, Port: g.Port(n), nic: n}
	if n.Firewall {
		z.guest = g
	}
	return z
}

// A Step is one check point of a packet's way and what came of it.
type Step struct {
	Base    string // the kernel's chain
	In, Out string // what the packet came in by and goes out by
	Verdict firewall.Verdict
}

// String describes the step as the trace of a simulation shows it.
func (s Step) String() string {
	return fmt.Sprintf("%s in=%s out=%s: %s", s.Base, s.In, s.Out, s.Verdict)
}

// Send passes a packet from one zone to another. The first verdict that is not
// ACCEPT is the answer; steps are those taken up to there.
func Send(r *firewall.Ruleset, p firewall.Packet, from, to Zone, trace firewall.Trace) (firewall.Verdict, []Step) {
	var steps []Step
	for _, s := range route(from, to) {
		s.packet(&p)
		s.Verdict = s.send(r, p, trace)
		steps = append(steps, s.Step)
		if s.Verdict != firewall.Accept {
			return s.Verdict, steps
		}
	}
	return firewall.Accept, steps
}

// A point is a check point before the packet has passed it.
type point struct {
	Step
	bridge string // of bridged packets
}

// route returns the check points between two zones. Between two ports of
// bridges that belong to no filtered NIC there are none.
func route(from, to Zone) (points []point) {
	if g := from.guest; g != nil {
		points = append(points, point{Step{Base: "FORWARD", In: from.Port, Out: g.Link(from.nic)}, g.Bridge(from.nic)})
	}
	switch {
	case to.Bridge == "":
		points = append(points, point{Step: Step{Base: "INPUT", In: from.Bridge}})
	case from.Bridge == "":
		points = append(points, point{Step: Step{Base: "OUTPUT", Out: to.Bridge}})
	}
	if g := to.guest; g != nil {
		points = append(points, point{Step{Base: "FORWARD", In: g.Link(to.nic), Out: to.Port}, g.Bridge(to.nic)})
	}
	return points
}

// packet sets what a packet shows at this point.
func (s point) packet(p *firewall.Packet) {
	p.In, p.Out, p.PortIn, p.PortOut, p.Bridged = s.In, s.Out, "", "", s.bridge != ""
	if p.Bridged {
		p.In, p.Out, p.PortIn, p.PortOut = s.bridge, s.bridge, s.In, s.Out
	}
}

// send asks layer 2 for bridged packets first, as the kernel does.
func (s point) send(r *firewall.Ruleset, p firewall.Packet, trace firewall.Trace) firewall.Verdict {
	family := firewall.IPv4
	if p.Source.Is6() {
		family = firewall.IPv6
	}
	if p.Bridged {
		if v := r.Send(p, firewall.Bridge, "filter", s.Base, trace); v != firewall.Accept {
			return v
		}
	}
	if p.FrameType == "ARP" {
		return firewall.Accept
	}
	if !p.Bridged && s.Base == "INPUT" {
		if v := r.Send(p, family, "raw", "PREROUTING", trace); v != firewall.Accept {
			return v
		}
	}
	return r.Send(p, family, "filter", s.Base, trace)
}
