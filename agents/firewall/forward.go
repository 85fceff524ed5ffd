package firewall

// forward builds the chain of packets that the node passes on: on guests' own
// bridges, through virtual networks, and from one network to another.
func (b *builder) forward() {
	var c Chain
	b.known(&c)
	c.add(jump("PVEFW-FWBR-IN"), bridged{in: "fwln+"})
	c.add(jump("PVEFW-FWBR-OUT"), bridged{out: "fwln+"})
	for _, v := range b.in.VNets {
		if name := "PVEFW-VNET-" + v.Name; option(v.Rules, "enable", "0") != "0" {
			c.add(jump(name), inInterface(v.Name), bridged{})
			b.vnet(name, v)
		}
	}
	if option(b.in.Host, "enable", "1") != "0" {
		c.add(jump("PVEFW-HOST-FWD"), routed{})
		b.hostForward()
	}
	b.chains["PVEFW-FORWARD"] = c
}

// hostForward decides packets that the node routes.
func (b *builder) hostForward() {
	p := b.hostPassage("PVEFW-HOST-FWD", "forward", func(name string) Condition { return inInterface(name) })
	var c Chain
	b.hostRules(&c, p)
	b.policy(&c, p, option(b.in.Cluster, "policy_forward", "ACCEPT"))
	b.chains[p.chain] = c
}

// vnet decides packets that pass through a virtual network's bridge.
func (b *builder) vnet(name string, v VNet) {
	p := passage{
		chain: name, way: "forward", accept: giveWay, marked: giveWay,
		level: option(v.Rules, "log_level_forward", noLog),
		scope: clusterScope(b.in), only: anyInterface,
	}
	var c Chain
	b.rules(&c, p, v.Rules, v.Rules.Rules)
	b.policy(&c, p, option(v.Rules, "policy_forward", "ACCEPT"))
	b.chains[p.chain] = c
}
