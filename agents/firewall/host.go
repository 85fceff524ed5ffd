package firewall

import (
	"net/netip"

	fw "etcpve/cfs/format/firewall"
)

// corosyncPorts are for clusters that still carry corosync's traffic.
func (n Node) corosyncPorts() portRange {
	if n.Transport == "udp" || n.Transport == "udpu" {
		return portRange{5404, 5405}
	}
	return portRange{5404, 5412}
}

// managementPorts are open to the set management: API, consoles, SPICE, SSH and
// migration; managedPorts to other nodes are not restricted on the way out.
var (
	managementPorts = []portRange{{8006, 8006}, {5900, 5999}, {3128, 3128}, {22, 22}, {60000, 60050}}
	managedPorts    = []portRange{{8006, 8006}, {22, 22}, {5900, 5999}, {3128, 3128}}
)

// host builds the chains of packets to and from the node itself.
func (b *builder) host() {
	b.chains["PVEFW-INPUT"] = nil
	b.chains["PVEFW-OUTPUT"] = nil
	if option(b.in.Host, "enable", "1") == "0" {
		return
	}
	b.chains["PVEFW-INPUT"] = Chain{rule(jump("PVEFW-HOST-IN"))}
	b.chains["PVEFW-OUTPUT"] = Chain{rule(jump("PVEFW-HOST-OUT"))}
	b.hostIn()
	b.hostOut()
}

func (b *builder) hostIn() {
	p := b.hostPassage("PVEFW-HOST-IN", "in", func(name string) Condition { return inInterface(name) })
	var c Chain
	c.add(accept, inInterface("lo"))
	b.known(&c)
	b.filters(&c)
	c.add(p.accept, protocol("igmp"))
	b.neighbours(&c, p.accept, option(b.in.Host, "ndp", "1"), neighbourTypes)
	b.hostRules(&c, p)
	for _, r := range managementPorts {
		c.add(p.accept, member{source, setName(0, management, b.family), false}, protocol("tcp"), portsAt(dest, r))
	}
	for _, s := range b.in.Node.Services {
		if s.Joining {
			c.add(p.accept, member{source, setName(0, management, b.family), false}, protocol(s.Protocol), portsAt(dest, portRange{s.First, s.Last}))
		}
	}
	b.cluster(&c, p.accept, source, dest)
	b.policy(&c, p, option(b.in.Cluster, "policy_in", "DROP"))
	b.chains[p.chain] = c
}

func (b *builder) hostOut() {
	p := b.hostPassage("PVEFW-HOST-OUT", "out", func(name string) Condition { return outInterface(name) })
	var c Chain
	c.add(accept, outInterface("lo"))
	b.known(&c)
	c.add(p.accept, protocol("igmp"))
	b.neighbours(&c, p.accept, option(b.in.Host, "ndp", "1"), neighbourTypes)
	b.hostRules(&c, p)
	for _, network := range b.in.localNetworks() {
		for _, r := range managedPorts {
			if b.speaks(network.Addr()) {
				c.add(p.accept, within{dest, network.Masked()}, protocol("tcp"), portsAt(dest, r))
			}
		}
	}
	b.cluster(&c, p.accept, dest, source)
	b.policy(&c, p, option(b.in.Cluster, "policy_out", "ACCEPT"))
	b.chains[p.chain] = c
}

// hostPassage describes a chain of the node. What it accepts goes back to the
// kernel's chain: others may have rules there.
func (b *builder) hostPassage(chain, way string, only func(string) Condition) passage {
	return passage{
		chain: chain, way: way, accept: giveWay, marked: giveWay,
		level: option(b.in.Host, "log_level_"+way, noLog),
		scope: clusterScope(b.in),
		only: func(iface string) ([]Condition, bool) {
			if iface == "" {
				return nil, true
			}
			return []Condition{only(iface)}, true
		},
	}
}

// hostRules appends the node's own rules, then the cluster's. Names in host.fw
// are the cluster's, wherever they stand in its file.
func (b *builder) hostRules(c *Chain, p passage) {
	for _, doc := range []*fw.Document{b.in.Host, b.in.Cluster} {
		b.rules(c, p, doc, rulesOf(doc))
	}
}

// known decides packets of connections that were decided before.
func (b *builder) known(c *Chain) {
	if option(b.in.Host, "nf_conntrack_allow_invalid", "0") == "0" {
		c.add(drop, stateInvalid)
	}
	c.add(accept, state("RELATED,ESTABLISHED"))
}

// cluster opens what members of the cluster need of each other: peer is the
// other member's side of the packet, own is this node's.
func (b *builder) cluster(c *Chain, pass Target, peer, own side) {
	corosync := []Condition{protocol("udp"), portsAt(dest, b.in.Node.corosyncPorts())}
	if b.in.Node.Transport == "udp" {
		c.add(pass, append([]Condition{addressType{dest, "MULTICAST"}}, corosync...)...)
	}
	for _, ring := range b.in.Node.Rings {
		for _, address := range ring.Peers {
			if !b.speaks(address) || !b.speaks(ring.Own) {
				continue
			}
			ends := []Condition{within{peer, single(address)}, within{own, single(ring.Own)}}
			c.add(pass, join(ends, nil, nil, corosync)...)
			for _, s := range b.in.Node.Services {
				c.add(pass, join(ends, protocol(s.Protocol), portsAt(dest, portRange{s.First, s.Last}), nil)...)
			}
		}
	}
}

// speaks reports whether an address is of the builder's family.
func (b *builder) speaks(a netip.Addr) bool { return a.IsValid() && a.Is4() == (b.family == IPv4) }

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
