package firewall

import (
	"fmt"
	"hash/fnv"
	"net/netip"
)

// A Set is an IP set of one family, of the kernel's kind hash:net.
type Set struct {
	Name    string
	Family  Family
	Members []Member
}

// A Member is a network of a set. Not takes it out of a larger one.
type Member struct {
	Prefix netip.Prefix
	Not    bool
}

// Contains reports whether the kernel would find an address in the set: the
// longest network that holds it decides.
func (s Set) Contains(a netip.Addr) bool {
	longest, found := -1, false
	for _, m := range s.Members {
		if m.Prefix.Contains(a) && m.Prefix.Bits() > longest {
			longest, found = m.Prefix.Bits(), !m.Not
		}
	}
	return found
}

// String returns a member in the syntax of ipset.
func (m Member) String() string {
	text := m.Prefix.String()
	if m.Prefix.IsSingleIP() {
		text = m.Prefix.Addr().String()
	}
	if m.Not {
		text += " nomatch"
	}
	return text
}

// longestSetName leaves room for the ending that the name of a set has while
// the next version of it is built; the kernel allows 31.
const longestSetName = 26

// setName returns the kernel's name of a guest's set, or of one of the cluster's
// if vmid is 0. Names that are too long are replaced by a digest.
func setName(vmid uint32, name string, family Family) string {
	full := fmt.Sprintf("PVEFW-%d-%s-v%d", vmid, name, family)
	if len(full) <= longestSetName {
		return full
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return fmt.Sprintf("PVEFW-%x-v%d", h.Sum64()^uint64(vmid), family)
}

// newSet makes a set of those members that are of its family. Of members that
// are the same network the first stays.
func newSet(name string, family Family, members []Member) Set {
	s := Set{Name: name, Family: family}
	seen := map[netip.Prefix]bool{}
	for _, m := range members {
		if m.Prefix.Addr().Is4() != (family == IPv4) {
			continue
		}
		for _, p := range halves(m.Prefix) {
			if !seen[p] {
				seen[p] = true
				s.Members = append(s.Members, Member{p, m.Not})
			}
		}
	}
	return s
}

// halves cuts the network of all addresses in two: hash:net has no /0.
func halves(p netip.Prefix) []netip.Prefix {
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	bytes := p.Addr().AsSlice()
	bytes[0] = 1 << 7
	upper, _ := netip.AddrFromSlice(bytes)
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(upper, 1)}
}
