package firewall

import (
	"slices"
	"strings"

	fw "etcpve/cfs/format/firewall"
)

// A helper follows the secondary connections of a protocol.
type helper struct {
	name, protocol string
	port           int
	ipv6           bool
}

// helpers of the kernel's connection tracking and where they listen.
var helpers = []helper{
	{"amanda", "udp", 10080, true},
	{"ftp", "tcp", 21, true},
	{"irc", "tcp", 6667, false},
	{"netbios-ns", "udp", 137, false},
	{"pptp", "tcp", 1723, false},
	{"sane", "tcp", 6566, true},
	{"sip", "udp", 5060, true},
	{"snmp", "udp", 161, false},
	{"tftp", "udp", 69, true},
}

// fastest is the kernel's limit for rates, a second, and bursts.
const fastest = 1000000

// rawChains builds the rules that see packets before connection tracking does:
// protection against floods of TCP connections, and helpers.
func rawChains(host *fw.Document, family Family) map[string]Chain {
	var c Chain
	if option(host, "protection_synflood", "0") != "0" {
		c.add(drop, protocol("tcp"), tcpStart, flood{
			rate:  min(max(number(host, "protection_synflood_rate", 200), 1), fastest),
			burst: min(max(number(host, "protection_synflood_burst", 1000), 1), fastest),
		})
	}
	wanted := strings.FieldsFunc(option(host, "nf_conntrack_helpers", ""), func(r rune) bool {
		return strings.ContainsRune(",; ", r)
	})
	for _, h := range helpers {
		if slices.Contains(wanted, h.name) && (h.ipv6 || family == IPv4) {
			c.add(Target{Name: "CT", Options: "--helper " + h.name}, protocol(h.protocol), portsAt(dest, portRange{h.port, h.port}))
		}
	}
	if len(c) == 0 {
		return nil
	}
	return map[string]Chain{"PVEFW-PREROUTING": c}
}
