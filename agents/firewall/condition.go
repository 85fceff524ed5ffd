package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// inInterface and outInterface are names of interfaces; a bridge stands for
// what comes in or goes out through any of its ports. A name that ends in '+'
// stands for all that begin so.
type (
	inInterface  string
	outInterface string
)

func (c inInterface) String() string                    { return "-i " + string(c) }
func (c inInterface) Holds(p *Packet, _ *Ruleset) bool  { return wildcard(string(c), p.In) }
func (c outInterface) String() string                   { return "-o " + string(c) }
func (c outInterface) Holds(p *Packet, _ *Ruleset) bool { return wildcard(string(c), p.Out) }

// bridged holds for packets that pass a bridge from one port to another; the
// ports are like interface names, and may be empty.
type bridged struct{ in, out string }

func (c bridged) String() string {
	text := "-m physdev --physdev-is-bridged"
	if c.in != "" {
		text += " --physdev-in " + c.in
	}
	if c.out != "" {
		text += " --physdev-out " + c.out
	}
	return text
}

func (c bridged) Holds(p *Packet, _ *Ruleset) bool {
	return p.Bridged && (c.in == "" || wildcard(c.in, p.PortIn)) && (c.out == "" || wildcard(c.out, p.PortOut))
}

// routed holds for packets that pass from one network to another.
type routed struct{}

func (routed) String() string                   { return "-m physdev ! --physdev-is-bridged" }
func (routed) Holds(p *Packet, _ *Ruleset) bool { return !p.Bridged }

// protocol is a transport protocol by its name or number.
type protocol string

func (c protocol) String() string                   { return "-p " + string(c) }
func (c protocol) Holds(p *Packet, _ *Ruleset) bool { return sameProtocol(string(c), p.Protocol) }

// A side is the source or the destination of a packet.
type side int

const (
	source side = iota
	dest
)

func (s side) addr(p *Packet) netip.Addr { return [2]netip.Addr{p.Source, p.Dest}[s] }
func (s side) kind(p *Packet) string     { return [2]string{p.SourceType, p.DestType}[s] }
func (s side) port(p *Packet) int        { return [2]int{p.SourcePort, p.DestPort}[s] }
func (s side) word() string              { return [2]string{"src", "dst"}[s] }
func (s side) letter() string            { return [2]string{"s", "d"}[s] }

// within holds for an address in a network.
type within struct {
	side
	netip.Prefix
}

func (c within) String() string                   { return "-" + c.letter() + " " + c.Prefix.String() }
func (c within) Holds(p *Packet, _ *Ruleset) bool { return c.Contains(c.addr(p)) }

// between holds for an address from first to last.
type between struct {
	side
	first, last netip.Addr
}

func (c between) String() string {
	return "-m iprange --" + c.word() + "-range " + c.first.String() + "-" + c.last.String()
}

func (c between) Holds(p *Packet, _ *Ruleset) bool {
	a := c.addr(p)
	return a.IsValid() && !a.Less(c.first) && !c.last.Less(a)
}

// member holds for an address in an IP set, or for one that is not.
type member struct {
	side
	set string
	not bool
}

func (c member) String() string {
	return "-m set " + negation(c.not) + "--match-set " + c.set + " " + c.word()
}

func (c member) Holds(p *Packet, r *Ruleset) bool {
	s, ok := r.Set(c.set)
	return ok && s.Contains(c.addr(p)) != c.not
}

// addressType is a kind of address as the routing table sees it: UNICAST,
// BROADCAST, MULTICAST, ANYCAST.
type addressType struct {
	side
	kind string
}

func (c addressType) String() string {
	return "-m addrtype --" + c.word() + "-type " + c.kind
}

func (c addressType) Holds(p *Packet, _ *Ruleset) bool { return c.side.kind(p) == c.kind }

// linkType is how the frame came: unicast, broadcast or multicast.
type linkType string

func (c linkType) String() string                   { return "-m pkttype --pkt-type " + string(c) }
func (c linkType) Holds(p *Packet, _ *Ruleset) bool { return p.LinkType == string(c) }

// A portRange is a port (first = last) or all ports from first to last.
type portRange struct{ first, last int }

func (r portRange) String() string {
	if r.first == r.last {
		return strconv.Itoa(r.first)
	}
	return strconv.Itoa(r.first) + ":" + strconv.Itoa(r.last)
}

// ports holds for a port in any of the ranges.
type ports struct {
	side
	ranges []portRange
	list   bool // written as a list even if it is one range
}

func portsAt(at side, ranges ...portRange) ports { return ports{side: at, ranges: ranges} }

func (c ports) String() string {
	if !c.list && len(c.ranges) == 1 {
		return "--" + c.letter() + "port " + c.ranges[0].String()
	}
	words := make([]string, len(c.ranges))
	for i, r := range c.ranges {
		words[i] = r.String()
	}
	return "-m multiport --" + c.letter() + "ports " + strings.Join(words, ",")
}

func (c ports) Holds(p *Packet, _ *Ruleset) bool {
	port := c.port(p)
	return port != NoPort && slices.ContainsFunc(c.ranges, func(r portRange) bool {
		return r.first <= port && port <= r.last
	})
}

// icmpType is a type of ICMP message by its name or number.
type icmpType struct {
	family Family
	name   string
}

func (c icmpType) String() string {
	// The tools would read a number that begins with 0 as an octal one.
	parts := strings.Split(c.name, "/")
	for i, p := range parts {
		if n, err := strconv.Atoi(p); err == nil {
			parts[i] = strconv.Itoa(n)
		}
	}
	name := strings.Join(parts, "/")
	if c.family == IPv6 {
		return "-m icmp6 --icmpv6-type " + name
	}
	return "-m icmp --icmp-type " + name
}

// Holds compares names, as the two of a rule and a test packet are written.
func (c icmpType) Holds(p *Packet, _ *Ruleset) bool { return p.ICMPType == c.name }

// foreignMAC holds for frames from any other MAC address.
type foreignMAC string

func (c foreignMAC) String() string { return "-m mac ! --mac-source " + string(c) }

func (c foreignMAC) Holds(p *Packet, _ *Ruleset) bool {
	return p.SourceMAC != "" && !strings.EqualFold(p.SourceMAC, string(c))
}

// state is a list of states of connection tracking.
type state string

const (
	stateNew     state = "NEW"
	stateInvalid state = "INVALID"
)

func (c state) String() string { return "-m conntrack --ctstate " + string(c) }

func (c state) Holds(p *Packet, _ *Ruleset) bool {
	for s := range strings.SplitSeq(string(c), ",") {
		if s == p.State {
			return true
		}
	}
	return false
}

// tcpFlags holds if, of the flags in mask, just those in set are on; or, if
// not, else.
type tcpFlags struct {
	not       bool
	mask, set string
}

func (c tcpFlags) String() string {
	return "-m tcp " + negation(c.not) + "--tcp-flags " + c.mask + " " + c.set
}

func (c tcpFlags) Holds(p *Packet, _ *Ruleset) bool {
	for flag := range strings.SplitSeq(allFlags, ",") {
		if hasWord(c.mask, flag) && hasWord(c.set, flag) != hasWord(p.Flags, flag) {
			return c.not
		}
	}
	return !c.not
}

const allFlags = "FIN,SYN,RST,PSH,ACK,URG"

// marked holds for packets that a chain accepted, see setMark.
type marked struct{}

func (marked) String() string                   { return "-m mark --mark " + markBit }
func (marked) Holds(p *Packet, _ *Ruleset) bool { return p.marked }

// limited holds only so often: for logs. The simulator's packet is the first.
type limited struct {
	rate  string // 1/second
	burst int
}

func (c limited) String() string {
	return "-m limit --limit " + c.rate + " --limit-burst " + strconv.Itoa(c.burst)
}

func (limited) Holds(*Packet, *Ruleset) bool { return true }

// flood holds for sources that send more than rate packets a second. The
// simulator's packet is the first of its source.
type flood struct{ rate, burst int }

func (c flood) String() string {
	return "-m hashlimit --hashlimit-above " + strconv.Itoa(c.rate) + "/sec --hashlimit-burst " + strconv.Itoa(c.burst) +
		" --hashlimit-mode srcip --hashlimit-name pvefw-syn --hashlimit-htable-expire 10000"
}

func (flood) Holds(*Packet, *Ruleset) bool { return false }

func negation(not bool) string {
	if not {
		return "! "
	}
	return ""
}

// wildcard reports whether name is what pattern says.
func wildcard(pattern, name string) bool {
	if begin, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(name, begin)
	}
	return pattern == name
}

// hasWord reports whether a comma separated list has a word.
func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}
