package firewall

import "net/netip"

// The chains that every rule set has, whatever the files say. Their names and
// contents are what Proxmox VE's users know from iptables-save.
const (
	chainSetMark   = "PVEFW-SET-ACCEPT-MARK" // accept, as seen from a chain that others call
	chainReject    = "PVEFW-reject"          // answer the sender as its protocol wants it
	chainBroadcast = "PVEFW-DropBroadcast"
	chainDrop      = "PVEFW-Drop"   // before a policy of DROP
	chainRejectAll = "PVEFW-Reject" // before a policy of REJECT
	chainSmurfs    = "PVEFW-smurfs" // sources that no packet can come from
	chainSmurfLog  = "PVEFW-smurflog"
	chainFlags     = "PVEFW-tcpflags" // flags that no TCP sends
	chainFlagsLog  = "PVEFW-logflags"
	chainBlacklist = "PVEFW-blacklist"
)

// multicast is the network of all multicast addresses.
var multicast = map[Family]netip.Prefix{
	IPv4: netip.MustParsePrefix("224.0.0.0/4"),
	IPv6: netip.MustParsePrefix("ff00::/8"),
}

// kinds of addresses that are not one machine's. IPv6 has no broadcast, and
// the kernel refuses to look for it.
var sharedKinds = map[Family][]string{
	IPv4: {"BROADCAST", "MULTICAST", "ANYCAST"},
	IPv6: {"MULTICAST", "ANYCAST"},
}

// icmpOf is the ICMP protocol of a family.
var icmpOf = map[Family]protocol{IPv4: "icmp", IPv6: "ipv6-icmp"}

// criticalTypes are the ICMP errors without which connections break: unlike
// other packets, they pass a policy of DROP or REJECT.
var criticalTypes = map[Family][]string{
	IPv4: {"fragmentation-needed", "time-exceeded"},
	IPv6: {"destination-unreachable", "time-exceeded", "packet-too-big"},
}

// unrelated is a state of ICMP errors that belong to no known connection;
// connection tracking never calls an ICMP error NEW.
const unrelated = state("INVALID,UNTRACKED")

// tcpStart is the first packet of a TCP connection.
var tcpStart = tcpFlags{mask: "FIN,SYN,RST,ACK", set: "SYN"}

// standardChains returns the chains of a family.
func standardChains(family Family) map[string]Chain {
	return map[string]Chain{
		chainSetMark:   {rule(setMark)},
		chainReject:    rejectChain(family),
		chainBroadcast: broadcastChain(family),
		chainDrop:      quietChain(family, drop, unrelated),
		chainRejectAll: quietChain(family, follow(chainReject)),
	}
}

// rejectChain answers the sender. The kernel itself never answers an ICMP error
// or a broadcast it received; it would those that a bridge passes on.
func rejectChain(family Family) Chain {
	unreachable, prohibited := "icmp-host-unreachable", "icmp-host-prohibited"
	if family == IPv6 {
		unreachable, prohibited = "icmp6-addr-unreachable", "icmp6-adm-prohibited"
	}
	port := map[Family]string{IPv4: "icmp-port-unreachable", IPv6: "icmp6-port-unreachable"}[family]
	return Chain{
		rule(drop, linkType("broadcast")),
		rule(drop, linkType("multicast")),
		rule(reject("tcp-reset"), protocol("tcp")),
		rule(reject(port), protocol("udp")),
		rule(reject(unreachable), icmpOf[family]),
		rule(reject(prohibited)),
	}
}

func broadcastChain(family Family) (c Chain) {
	for _, kind := range sharedKinds[family] {
		c.add(drop, addressType{dest, kind})
	}
	c.add(drop, within{dest, multicast[family]})
	return c
}

// quietChain is what a policy does before it logs: it lets critical ICMP errors
// pass, in the states given, and gets rid of noise without a word in the log. A
// policy of REJECT lets the errors pass in any state, because nothing may ever
// be answered to an ICMP error.
func quietChain(family Family, noise Target, critical ...Condition) (c Chain) {
	c.add(jump(chainBroadcast))
	for _, kind := range criticalTypes[family] {
		c.add(accept, append([]Condition{icmpOf[family], icmpType{family, kind}}, critical...)...)
	}
	c.add(drop, stateInvalid)
	for _, n := range smbNoise {
		c.add(noise, n...)
	}
	c.add(drop, protocol("udp"), portsAt(dest, portRange{1900, 1900}))
	late := tcpStart
	late.not = true
	c.add(drop, protocol("tcp"), late)
	c.add(drop, protocol("udp"), portsAt(source, portRange{53, 53}))
	return c
}

// smbNoise is what Windows machines send to everybody around them.
var smbNoise = [][]Condition{
	{protocol("udp"), portsAt(dest, portRange{135, 135}, portRange{445, 445})},
	{protocol("udp"), portsAt(dest, portRange{137, 139})},
	{protocol("udp"), portsAt(source, portRange{137, 137}), portsAt(dest, portRange{1024, 65535})},
	{protocol("tcp"), portsAt(dest, portRange{135, 135}, portRange{139, 139}, portRange{445, 445})},
}

// badFlags are combinations of flags that scanners send and TCP never does.
var badFlags = []tcpFlags{
	{mask: allFlags, set: "FIN,PSH,URG"},
	{mask: allFlags, set: "NONE"},
	{mask: "SYN,RST", set: "SYN,RST"},
	{mask: "FIN,SYN", set: "FIN,SYN"},
}

func flagsChain() (c Chain) {
	for _, f := range badFlags {
		c.add(follow(chainFlagsLog), protocol("tcp"), f)
	}
	c.add(follow(chainFlagsLog), protocol("tcp"), portsAt(source, portRange{0, 0}), tcpStart)
	return c
}

// smurfsChain finds sources that are groups of machines: an answer would go to
// all of them. A machine without an address yet may say so.
func smurfsChain(family Family) (c Chain) {
	if family == IPv4 {
		c.add(giveWay, within{source, netip.MustParsePrefix("0.0.0.0/32")})
		c.add(follow(chainSmurfLog), addressType{source, "BROADCAST"})
	}
	c.add(follow(chainSmurfLog), within{source, multicast[family]})
	return c
}
