package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Where says in which file a named alias or set is looked for.
type Where int

// The prefixes that names may have.
const (
	Anywhere   Where = iota // no prefix: the guest's own file first, then the cluster's
	Datacenter              // dc/
	InGuest                 // guest/
	SDN                     // sdn/, sets only; made by the software defined network
)

var prefixes = []string{"", "dc/", "guest/", "sdn/"}

// An Address is the value of -source and -dest, of an alias or of an entry of
// an IP set. One of Set, Alias and Ranges is given.
type Address struct {
	Set, Alias string // folded to lower case, without prefix
	Where      Where
	Ranges     []Range
}

// A Range is an address (First = Last), a network (Prefix is valid) or a range
// of addresses.
type Range struct {
	First, Last netip.Addr
	Prefix      netip.Prefix
}

// IsNetwork reports whether a is one address or network.
func (a Address) IsNetwork() bool { return len(a.Ranges) == 1 && a.Ranges[0].Prefix.IsValid() }

// Family returns 4 or 6, or 0 if a is named.
func (a Address) Family() int {
	switch {
	case len(a.Ranges) == 0:
		return 0
	case a.Ranges[0].First.Is4():
		return 4
	}
	return 6
}

// String returns the canonical form.
func (a Address) String() string {
	switch {
	case a.Set != "":
		return "+" + prefixes[a.Where] + a.Set
	case a.Alias != "":
		return prefixes[a.Where] + a.Alias
	}
	parts := make([]string, len(a.Ranges))
	for i, r := range a.Ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// String returns an address, a network or a range.
func (r Range) String() string {
	switch {
	case !r.Prefix.IsValid():
		return r.First.String() + "-" + r.Last.String()
	case r.Prefix.IsSingleIP():
		return r.First.String()
	}
	return r.Prefix.String()
}

// ParseAddress reads addresses as rules, aliases and sets name them.
func ParseAddress(spec string) (Address, error) {
	if name, ok := strings.CutPrefix(spec, "+"); ok {
		where, name := splitPrefix(name)
		if !nameForm.MatchString(name) {
			return Address{}, fmt.Errorf("'%s' is not the name of an IP set", name)
		}
		return Address{Set: strings.ToLower(name), Where: where}, nil
	}
	if where, name := splitPrefix(spec); where != SDN && nameForm.MatchString(name) {
		return Address{Alias: strings.ToLower(name), Where: where}, nil
	}
	var a Address
	for _, part := range strings.Split(spec, ",") {
		r, err := parseRange(part)
		if err != nil {
			return Address{}, err
		}
		a.Ranges = append(a.Ranges, r)
		if r.First.Is4() != a.Ranges[0].First.Is4() {
			return Address{}, errors.New("IPv4 and IPv6 addresses in one list")
		}
	}
	for _, r := range a.Ranges {
		if len(a.Ranges) > 1 && !r.Prefix.IsValid() {
			return Address{}, errors.New("a range cannot be part of a list")
		}
	}
	return a, nil
}

func splitPrefix(name string) (Where, string) {
	for where := Datacenter; where <= SDN; where++ {
		if rest, ok := strings.CutPrefix(name, prefixes[where]); ok {
			return where, rest
		}
	}
	return Anywhere, name
}

func parseRange(part string) (Range, error) {
	if first, last, ok := strings.Cut(part, "-"); ok {
		a, errA := parseIP(first)
		b, errB := parseIP(last)
		if err := errors.Join(errA, errB); err != nil {
			return Range{}, err
		}
		if a.Is4() != b.Is4() || b.Less(a) {
			return Range{}, fmt.Errorf("'%s' is not a range of addresses", part)
		}
		return Range{First: a, Last: b}, nil
	}
	if !strings.Contains(part, "/") {
		a, err := parseIP(part)
		return Range{First: a, Last: a, Prefix: netip.PrefixFrom(a, a.BitLen())}, err
	}
	p, err := netip.ParsePrefix(part)
	if err != nil || p.Addr().Is4In6() {
		return Range{}, fmt.Errorf("'%s' is not a network", part)
	}
	if p.Masked() != p {
		return Range{}, fmt.Errorf("'%s' has host bits set; expected '%s'", part, p.Masked())
	}
	return Range{First: p.Addr(), Last: lastOf(p), Prefix: p}, nil
}

func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("'%s' is not an IP address", s)
	}
	return a, nil
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
