package firewall

import (
	"reflect"

	"etcpve/cfs/format/text"
)

// A part is what one guest adds to the rule set: the chains of its NICs and its
// IP sets.
type part struct {
	guest    Guest
	chains   map[Family]map[string]Chain
	sets     []Set
	problems []text.Error
}

// compileParts returns the parts of the guests that are filtered. They follow
// from the guest itself and from what is around it: the names of the cluster,
// the options of the host, the networks of the node.
func (c *Compiler) compileParts(in *Input) (parts []part) {
	around := *in
	around.Guests, around.VNets = nil, nil
	if c.parts == nil || c.around.Cluster != in.Cluster || c.around.Host != in.Host || !reflect.DeepEqual(c.around.Node, in.Node) {
		c.parts = nil
	}
	fresh := make(map[uint32]part, len(in.Guests))
	for _, g := range in.Guests {
		if !g.filtered() {
			continue
		}
		p, ok := c.parts[g.VMID]
		if !ok || !p.guest.same(g) {
			p = compilePart(in, g)
		}
		fresh[g.VMID] = p
		parts = append(parts, p)
	}
	c.parts, c.around = fresh, around
	return parts
}

// same reports whether two guests add the same to a rule set. Documents that did
// not change are the same ones.
func (g Guest) same(h Guest) bool {
	return g.Rules == h.Rules && g.Container == h.Container && reflect.DeepEqual(g.NICs, h.NICs)
}

func compilePart(in *Input, g Guest) part {
	found := &problems{seen: map[text.Error]bool{}}
	p := part{guest: g, chains: map[Family]map[string]Chain{}}
	guestSets(in, g, found, collect(&p.sets))
	for _, family := range []Family{IPv4, IPv6} {
		b := &builder{in: in, family: family, chains: map[string]Chain{}, logger: newLogger(in.Cluster), problems: found}
		for _, n := range g.ports() {
			b.entering(g, n)
			b.leaving(g, n)
		}
		p.chains[family] = b.chains
	}
	frames := map[string]Chain{}
	for _, n := range g.ports() {
		framesOf(in, g, n, frames)
	}
	p.chains[Bridge] = frames
	p.problems = found.list
	return p
}
