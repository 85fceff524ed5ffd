package firewall

import (
	"strconv"
	"strings"
)

// protocolNumbers are the numbers of the protocols that have names.
var protocolNumbers = numbers(`all 0 ip 0 hopopt 0 icmp 1 igmp 2 ggp 3 ipencap 4 st 5 tcp 6 egp 8 igp 9 pup 12 udp 17 hmp 20
	xns-idp 22 rdp 27 iso-tp4 29 dccp 33 xtp 36 ddp 37 idpr-cmtp 38 ipv6 41 ipv6-route 43 ipv6-frag 44 idrp 45 rsvp 46
	gre 47 esp 50 ah 51 skip 57 ipv6-icmp 58 icmpv6 58 ipv6-nonxt 59 ipv6-opts 60 rspf 73 vmtp 81 eigrp 88 ospf 89
	ax.25 93 ipip 94 etherip 97 encap 98 pim 103 ipcomp 108 vrrp 112 l2tp 115 isis 124 sctp 132 fc 133
	mobility-header 135 udplite 136 mpls-in-ip 137 manet 138 hip 139 shim6 140 wesp 141 rohc 142 ethernet 143`)

func numbers(words string) map[string]int {
	table, fields := map[string]int{}, strings.Fields(words)
	for i := 0; i < len(fields); i += 2 {
		table[fields[i]], _ = strconv.Atoi(fields[i+1])
	}
	return table
}

// protocolNumber returns the number of a protocol, or -1.
func protocolNumber(p string) int {
	if n, ok := protocolNumbers[p]; ok {
		return n
	}
	if n, err := strconv.ParseUint(p, 10, 8); err == nil {
		return int(n)
	}
	return -1
}

// protocolName returns a protocol as every version of the tools knows it: by
// name where an extension goes by that name, else by number.
func protocolName(p string) string {
	number := protocolNumber(p)
	switch number {
	case 1:
		return "icmp"
	case 2:
		return "igmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 33:
		return "dccp"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	case 136:
		return "udplite"
	}
	return strconv.Itoa(number)
}
