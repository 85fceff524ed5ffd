package firewall

import (
	"fmt"
	"maps"
	"net/netip"
)

// dhcpPorts are the ports of DHCP's server and client.
var dhcpPorts = map[Family][2]int{IPv4: {67, 68}, IPv6: {547, 546}}

// guests adds the chains of the guests' NICs, and those that lead to them.
func (b *builder) guests(parts []part) {
	var in, out Chain
	b.filters(&in)
	for _, p := range parts {
		for _, n := range p.guest.ports() {
			port := p.guest.Port(n)
			in.add(jump(port+"-IN"), bridged{out: port})
			out.add(jump(port+"-OUT"), bridged{in: port})
		}
		maps.Copy(b.chains, p.chains[b.family])
	}
	b.chains["PVEFW-FWBR-IN"], b.chains["PVEFW-FWBR-OUT"] = in, out
}

// entering builds the chain of packets to a NIC.
func (b *builder) entering(g Guest, n NIC) {
	p := b.guestPassage(g, n, "in")
	p.accept, p.marked = accept, accept
	var c Chain
	b.dhcp(&c, g, p.accept, 0, 1)
	b.neighbours(&c, p.accept, option(g.Rules, "ndp", "1"), neighbourTypes)
	b.rules(&c, p, g.Rules, g.Rules.Rules)
	b.policy(&c, p, option(g.Rules, "policy_in", "DROP"))
	b.chains[p.chain] = c
}

// leaving builds the chain of packets from a NIC. What it accepts carries a
// mark, because the chain may be left from a group.
func (b *builder) leaving(g Guest, n NIC) {
	p := b.guestPassage(g, n, "out")
	p.accept, p.marked = follow(chainSetMark), giveWay
	var c Chain
	b.dhcp(&c, g, p.accept, 1, 0)
	if option(g.Rules, "macfilter", "1") != "0" && n.MAC != "" {
		c.add(drop, foreignMAC(n.MAC))
	}
	if b.family == IPv6 && option(g.Rules, "radv", "0") == "0" {
		c.add(drop, icmpOf[IPv6], icmpType{IPv6, routerAdvertisement})
	}
	if g.filtersAddress(n) {
		if b.family == IPv6 {
			// Who asks whether an address is taken has none yet.
			c.add(p.accept, within{source, netip.MustParsePrefix("::/128")}, icmpOf[IPv6], icmpType{IPv6, "neighbour-solicitation"})
		}
		c.add(drop, member{source, setName(g.VMID, filterSet(n), b.family), true})
	}
	c.add(clearMark)
	b.neighbours(&c, p.accept, option(g.Rules, "ndp", "1"), guestNeighbourTypes)
	b.rules(&c, p, g.Rules, g.Rules.Rules)
	b.policy(&c, p, option(g.Rules, "policy_out", "ACCEPT"))
	b.chains[p.chain] = c
}

func (b *builder) guestPassage(g Guest, n NIC, way string) passage {
	net := fmt.Sprintf("net%d", n.Number)
	return passage{
		chain: g.Port(n) + ending[way], vmid: g.VMID, way: way,
		level: option(g.Rules, "log_level_"+way, noLog),
		scope: guestScope(b.in, g),
		only:  func(iface string) ([]Condition, bool) { return nil, iface == "" || iface == net },
	}
}

// dhcp lets DHCP pass unless the option dhcp is off; from and to say which of
// server and client sends and receives.
func (b *builder) dhcp(c *Chain, g Guest, pass Target, from, to int) {
	if option(g.Rules, "dhcp", "1") == "0" {
		return
	}
	at := dhcpPorts[b.family]
	c.add(pass, protocol("udp"),
		portsAt(source, portRange{at[from], at[from]}),
		portsAt(dest, portRange{at[to], at[to]}))
}

// filterSet is the name of the set of addresses that a NIC may send from.
func filterSet(n NIC) string { return fmt.Sprintf("ipfilter-net%d", n.Number) }

// filtersAddress reports whether a NIC may send from certain addresses only:
// because the guest's rules say so of all, or name the addresses of this one.
func (g Guest) filtersAddress(n NIC) bool {
	if option(g.Rules, "ipfilter", "0") != "0" {
		return true
	}
	_, ok := g.Rules.IPSet(filterSet(n))
	return ok
}
