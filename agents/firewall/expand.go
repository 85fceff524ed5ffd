package firewall

import (
	"errors"
	"strings"

	fw "etcpve/cfs/format/firewall"
)

// A plain rule is a rule of a file with its names resolved and its macro, if it
// has one, replaced by what the macro stands for.
type plain struct {
	fw.Rule
	parts  []fw.MacroRule
	ends   [2]end // by side
	family Family // 0: both
}

// An end is what a rule asks of a packet's source or destination. The zero
// value asks nothing.
type end struct {
	set    string // name of a set, of which each family has its own
	vmid   uint32
	ranges []fw.Range
}

var errMixed = errors.New("the rule mixes IPv4 and IPv6")

// resolve makes a plain rule, or says why the rule has no effect.
func (s scope) resolve(r fw.Rule) (p plain, err error) {
	p = plain{Rule: r, parts: partsOf(r)}
	for i, spec := range []string{r.Source, r.Dest} {
		var family Family
		if p.ends[i], family, err = s.end(spec); err != nil {
			return plain{}, err
		}
		if err = p.narrow(family); err != nil {
			return plain{}, err
		}
	}
	if m, ok := fw.FindMacro(r.Macro); ok && m.IPv6 {
		if err = p.narrow(IPv6); err != nil {
			return plain{}, err
		}
	}
	for _, part := range p.parts {
		if err = p.narrow(familyOf(part.Proto)); err != nil {
			return plain{}, err
		}
	}
	return p, nil
}

// narrow restricts the rule to a family; 0 restricts nothing.
func (p *plain) narrow(family Family) error {
	switch {
	case family == 0 || family == p.family:
		return nil
	case p.family != 0:
		return errMixed
	}
	p.family = family
	return nil
}

// end resolves a source or destination.
func (s scope) end(spec string) (e end, family Family, err error) {
	if spec == "" {
		return end{}, 0, nil
	}
	a, err := fw.ParseAddress(spec)
	if err != nil {
		return end{}, 0, err
	}
	switch {
	case a.Set != "":
		e.vmid, e.set, err = s.set(a)
		return e, 0, err
	case a.Alias != "":
		r, err := s.alias(a)
		if err != nil {
			return end{}, 0, err
		}
		e.ranges = []fw.Range{r}
	default:
		e.ranges = a.Ranges
	}
	if e.ranges[0].First.Is4() {
		return e, IPv4, nil
	}
	return e, IPv6, nil
}

// conditions returns the alternatives that an end leaves in a family. An end
// that asks nothing has one alternative, which is nil.
func (e end) conditions(at side, family Family) (list []Condition) {
	switch {
	case e.set != "":
		return []Condition{member{at, setName(e.vmid, e.set, family), false}}
	case len(e.ranges) == 0:
		return []Condition{nil}
	}
	for _, r := range e.ranges {
		if r.Prefix.IsValid() {
			list = append(list, within{at, r.Prefix})
		} else {
			list = append(list, between{at, r.First, r.Last})
		}
	}
	return list
}

// partsOf returns the protocols and ports of a rule: its own, or those of its
// macro, which never contradict them.
func partsOf(r fw.Rule) []fw.MacroRule {
	own := fw.MacroRule{Proto: strings.ToLower(r.Proto), Dport: r.Dport, Sport: r.Sport, ICMPType: r.ICMPType}
	m, ok := fw.FindMacro(r.Macro)
	if r.Macro == "" || !ok {
		return []fw.MacroRule{own}
	}
	parts := make([]fw.MacroRule, len(m.Rules))
	for i, p := range m.Rules {
		parts[i] = fw.MacroRule{
			Proto: first(own.Proto, p.Proto), Dport: first(own.Dport, p.Dport),
			Sport: first(own.Sport, p.Sport), ICMPType: first(own.ICMPType, p.ICMPType),
		}
	}
	return parts
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// alternatives returns the lists of conditions of which one has to hold for
// the rule to apply; none if the rule is not for that family.
func (p plain) alternatives(family Family, before ...Condition) (list [][]Condition) {
	if p.family != 0 && p.family != family {
		return nil
	}
	for _, part := range p.parts {
		for _, transport := range transports(part, family) {
			for _, from := range p.ends[source].conditions(source, family) {
				for _, to := range p.ends[dest].conditions(dest, family) {
					list = append(list, join(before, from, to, transport))
				}
			}
		}
	}
	return list
}

func join(before []Condition, from, to Condition, after []Condition) []Condition {
	all := make([]Condition, 0, len(before)+2+len(after))
	all = append(all, before...)
	for _, c := range []Condition{from, to} {
		if c != nil {
			all = append(all, c)
		}
	}
	return append(all, after...)
}

// transports returns the alternatives of what a part asks beyond addresses.
// The protocol comes first, as the tools need it to know the options that follow.
func transports(part fw.MacroRule, family Family) (all [][]Condition) {
	if fw.ProtocolNumber(part.Proto) <= 0 {
		return [][]Condition{nil}
	}
	proto := protocol(protocolName(part.Proto))
	if familyOf(part.Proto) != 0 {
		kind := first(part.ICMPType, part.Dport)
		if kind == "" || kind == "any" {
			return [][]Condition{{proto}}
		}
		return [][]Condition{{proto, icmpType{family, kind}}}
	}
	// Behind a list the tools take a single port for another one, and of UDP-Lite
	// they know nothing but lists.
	list := strings.Contains(part.Sport+part.Dport, ",") || proto == "udplite"
	for _, from := range portConditions(source, part.Sport, list) {
		for _, to := range portConditions(dest, part.Dport, list) {
			all = append(all, join([]Condition{proto}, from, to, nil))
		}
	}
	return all
}

// mostPorts is how many ports one condition can name; a range counts twice.
const mostPorts = 15

// portConditions returns the alternatives for one side's ports, of which there
// may be more than fit into one condition. No ports are one alternative, nil.
func portConditions(at side, spec string, asList bool) (list []Condition) {
	ranges, err := fw.ParsePorts(spec)
	if spec == "" || err != nil {
		return []Condition{nil}
	}
	var c ports
	used := mostPorts
	for _, r := range ranges {
		size := 1
		if r.First != r.Last {
			size = 2
		}
		if used += size; used > mostPorts {
			used = size
			c = ports{side: at, list: asList}
			list = append(list, c)
		}
		c.ranges = append(c.ranges, portRange{int(r.First), int(r.Last)})
		list[len(list)-1] = c
	}
	return list
}

// familyOf returns the only family in which a protocol makes sense, or 0.
func familyOf(proto string) Family {
	switch proto {
	case "icmp":
		return IPv4
	case "icmpv6", "ipv6-icmp":
		return IPv6
	}
	return 0
}
