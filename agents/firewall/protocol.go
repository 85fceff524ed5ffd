package firewall

import (
	"strconv"

	fw "etcpve/cfs/format/firewall"
)

// protocolName returns a protocol as every version of the tools knows it: by
// name where an extension goes by that name, else by number.
func protocolName(p string) string {
	number := fw.ProtocolNumber(p)
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
