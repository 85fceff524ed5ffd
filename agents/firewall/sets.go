package firewall

import (
	"maps"
	"net"
	"net/netip"
	"slices"

	fw "etcpve/cfs/format/firewall"
)

// collect returns how sets are added to a list, each for both families.
func collect(sets *[]Set) func(vmid uint32, name string, members []Member) {
	return func(vmid uint32, name string, members []Member) {
		for _, family := range []Family{IPv4, IPv6} {
			*sets = append(*sets, newSet(setName(vmid, name, family), family, members))
		}
	}
}

// compileSets makes the IP sets that are not a guest's.
func compileSets(in *Input, p *problems) (sets []Set) {
	add := collect(&sets)
	cluster := clusterScope(in)
	for _, s := range setsOf(in.Cluster) {
		members := cluster.members(in.Cluster, s, p)
		if s.Name == management {
			members = append(localMembers(in), members...)
		}
		add(0, s.Name, members)
	}
	if in.Cluster != nil {
		if _, ok := in.Cluster.IPSet(management); !ok {
			add(0, management, localMembers(in))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Node.SDN)) {
		add(0, sdnPrefix+name, membersOf(in.Node.SDN[name]))
	}
	return sets
}

// guestSets adds a guest's own sets, and for each filtered NIC the one of the
// addresses it may send from.
func guestSets(in *Input, g Guest, p *problems, add func(uint32, string, []Member)) {
	filters := map[string]bool{}
	for _, n := range g.ports() {
		if g.filtersAddress(n) {
			filters[filterSet(n)] = true
			add(g.VMID, filterSet(n), filterMembers(in, g, n))
		}
	}
	s := guestScope(in, g)
	for _, set := range setsOf(g.Rules) {
		members := s.members(g.Rules, set, p)
		if !filters[set.Name] {
			add(g.VMID, set.Name, members)
		}
	}
}

// linkLocal is the network of the addresses that IPv6 makes up by itself.
var linkLocal = netip.MustParsePrefix("fe80::/10")

// filterMembers returns the addresses that a NIC may send from: those of its
// set, those configured for it, and of the link-local ones its own.
func filterMembers(in *Input, g Guest, n NIC) (members []Member) {
	if own, ok := linkLocalOf(n.MAC); ok {
		members = append(members, Member{own, false}, Member{linkLocal, true})
	}
	for _, a := range n.Addresses {
		members = append(members, Member{single(a.Addr()), false})
	}
	if set, ok := g.Rules.IPSet(filterSet(n)); ok {
		// What is wrong with an entry is told when the set itself is compiled.
		members = append(members, guestScope(in, g).members(g.Rules, set, nil)...)
	}
	return members
}

// members resolves the entries of a set. Entries that name what is not there
// are left out and, if p is not nil, reported.
func (s scope) members(doc *fw.Document, set fw.IPSet, p *problems) (list []Member) {
	for _, e := range set.Entries {
		ranges := e.Address.Ranges
		if e.Address.Alias != "" {
			r, err := s.at(doc, e.Line).alias(e.Address)
			if err != nil {
				if p != nil {
					p.add(doc, e.Line, set.Name, err.Error())
				}
				continue
			}
			ranges = []fw.Range{r}
		}
		for _, r := range ranges {
			for _, prefix := range networks(r) {
				list = append(list, Member{prefix, e.Negated})
			}
		}
	}
	return list
}

// networks returns the fewest networks that make up a range.
func networks(r fw.Range) (list []netip.Prefix) {
	if r.Prefix.IsValid() {
		return []netip.Prefix{r.Prefix}
	}
	for a := r.First; a.IsValid() && !r.Last.Less(a); {
		p := single(a)
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(a, p.Bits()-1)
			if wider.Masked().Addr() != a || r.Last.Less(lastOf(wider)) {
				break
			}
			p = wider
		}
		list = append(list, p)
		a = lastOf(p).Next()
	}
	return list
}

// lastOf returns the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func localMembers(in *Input) []Member { return membersOf(in.localNetworks()) }

func membersOf(list []netip.Prefix) (members []Member) {
	for _, p := range list {
		members = append(members, Member{p.Masked(), false})
	}
	return members
}

// setsOf returns the sets of a document that may be missing. Of sets with one
// name the first counts.
func setsOf(d *fw.Document) (list []fw.IPSet) {
	if d == nil {
		return nil
	}
	for _, s := range d.IPSets {
		if first, _ := d.IPSet(s.Name); first.Line == s.Line {
			list = append(list, s)
		}
	}
	return list
}

// linkLocalOf returns the link-local address that follows from a MAC address.
func linkLocalOf(mac string) (netip.Prefix, bool) {
	var m [6]byte
	if !parseMAC(mac, &m) {
		return netip.Prefix{}, false
	}
	a := [16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}
	return single(netip.AddrFrom16(a)), true
}

func parseMAC(text string, m *[6]byte) bool {
	hw, err := net.ParseMAC(text)
	return err == nil && copy(m[:], hw) == len(hw)
}
