package firewall

import (
	"net/netip"
	"strings"
)

// Conditions on frames, in the syntax of ebtables.

// frameIn and frameOut are ports of a bridge; see inInterface.
type (
	frameIn  string
	frameOut string
)

func (c frameIn) String() string                    { return "-i " + string(c) }
func (c frameIn) Holds(p *Packet, _ *Ruleset) bool  { return wildcard(string(c), p.PortIn) }
func (c frameOut) String() string                   { return "-o " + string(c) }
func (c frameOut) Holds(p *Packet, _ *Ruleset) bool { return wildcard(string(c), p.PortOut) }

// frameType is the protocol that a frame carries: IPv4, IPv6 or ARP.
type frameType string

func (c frameType) String() string                   { return "-p " + string(c) }
func (c frameType) Holds(p *Packet, _ *Ruleset) bool { return p.FrameType == string(c) }

// frameForeignMAC holds for frames from any other MAC address.
type frameForeignMAC string

func (c frameForeignMAC) String() string { return "-s ! " + strings.ToLower(string(c)) }

func (c frameForeignMAC) Holds(p *Packet, r *Ruleset) bool { return foreignMAC(c).Holds(p, r) }

// arpSource is the address, or network of addresses, that an ARP message
// claims for its sender.
type arpSource netip.Prefix

func (c arpSource) String() string {
	p := netip.Prefix(c)
	if p.IsSingleIP() {
		return "--arp-ip-src " + p.Addr().String()
	}
	return "--arp-ip-src " + p.String()
}

func (c arpSource) Holds(p *Packet, _ *Ruleset) bool {
	return p.FrameType == "ARP" && netip.Prefix(c).Contains(p.Source)
}
