package firewall

import (
	"maps"
	"net/netip"
)

// frameChains builds the rules of layer 2: they see what is neither IPv4 nor
// IPv6, such as ARP, by which a guest could take another's address.
func frameChains(in *Input, parts []part) map[string]Chain {
	if option(in.Cluster, "ebtables", "1") == "0" {
		return nil
	}
	// What leaves a chain at its end would be accepted by the whole table.
	out := Chain{}
	chains := map[string]Chain{"PVEFW-FORWARD": {
		rule(giveWay, frameType("IPv4")),
		rule(giveWay, frameType("IPv6")),
		rule(jump("PVEFW-FWBR-OUT"), frameOut("fwln+")),
		rule(giveWay),
	}}
	for _, p := range parts {
		for _, n := range p.guest.ports() {
			out.add(jump(p.guest.Port(n)+"-OUT"), frameIn(p.guest.Port(n)))
		}
		maps.Copy(chains, p.chains[Bridge])
	}
	out.add(giveWay)
	chains["PVEFW-FWBR-OUT"] = out
	return chains
}

// framesOf builds the chains of one NIC: its MAC address must be its own, and so
// must be the address it claims by ARP, if its addresses are known.
func framesOf(in *Input, g Guest, n NIC, chains map[string]Chain) {
	var c Chain
	if option(g.Rules, "macfilter", "1") != "0" && n.MAC != "" {
		c.add(drop, frameForeignMAC(n.MAC))
	}
	if g.filtersAddress(n) {
		name := g.Port(n) + "-OUT-ARP"
		c.add(jump(name), frameType("ARP"))
		chains[name] = arpChain(filterMembers(in, g, n))
	}
	c.add(giveWay)
	chains[g.Port(n)+"-OUT"] = c
}

// arpChain lets claims of the members' addresses pass. Probes for an address,
// which claim none, pass as well.
func arpChain(members []Member) (c Chain) {
	none := netip.MustParsePrefix("0.0.0.0/32")
	allowed := []netip.Prefix{none}
	for _, m := range members {
		switch {
		case !m.Prefix.Addr().Is4():
		case m.Not:
			c.add(drop, frameType("ARP"), arpSource(m.Prefix))
		default:
			allowed = append(allowed, m.Prefix)
		}
	}
	for _, p := range allowed {
		c.add(giveWay, frameType("ARP"), arpSource(p))
	}
	c.add(drop)
	return c
}
