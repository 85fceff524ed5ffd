package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// Zones is sdn/zones.cfg.
var Zones = &section.Definition{
	ID: length(2, 8, matches("[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]")),
	Base: schema.Keys{
		"advertise-subnets":           boolean(),
		"bridge":                      text(),
		"bridge-disable-mac-learning": boolean(),
		"controller":                  text(),
		"dhcp":                        oneOf("dnsmasq"),
		"disable-arp-nd-suppression":  boolean(),
		"dns":                         text(),
		"dnszone":                     named("dns-name"),
		"dp-id":                       integer(),
		"exitnodes":                   named("pve-node-list"),
		"exitnodes-local-routing":     boolean(),
		"exitnodes-primary":           named("pve-node"),
		"fabric":                      named("pve-sdn-fabric-id"),
		"ipam":                        text(),
		"mac":                         named("mac-addr"),
		"mtu":                         integer(),
		"nodes":                       named("pve-node-list"),
		"peers":                       named("ip-list"),
		"reversedns":                  text(),
		"rt-import":                   named("pve-sdn-bgp-rt-list"),
		"tag":                         integer(0),
		"vlan-protocol":               oneOf("802.1q 802.1ad"),
		"vrf-vxlan":                   integer(1, 16777215),
		"vxlan-port":                  integer(1, 65536),
	},
	Types: kinds(map[string]string{
		"evpn":   "advertise-subnets? bridge-disable-mac-learning? controller disable-arp-nd-suppression? dns? dnszone? exitnodes? exitnodes-local-routing? exitnodes-primary? ipam? mac? mtu? nodes? reversedns? rt-import? vrf-vxlan vxlan-port?",
		"faucet": "controller dns? dnszone? dp-id ipam? nodes? reversedns?",
		"qinq":   "bridge bridge-disable-mac-learning? dns? dnszone? ipam? mtu? nodes? reversedns? tag vlan-protocol?",
		"simple": "dhcp? dns? dnszone? ipam? mtu? nodes? reversedns?",
		"vlan":   "bridge bridge-disable-mac-learning? dns? dnszone? ipam? mtu? nodes? reversedns?",
		"vxlan":  "dns? dnszone? fabric? ipam? mtu? nodes? peers? reversedns? vxlan-port?",
	}),
}

// VNets is sdn/vnets.cfg.
var VNets = &section.Definition{
	ID: length(2, 8, matches("[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]")),
	Base: schema.Keys{
		"alias":         length(0, 256, matches(`(?i)[\(\)-_.\w\d\s]{0,256}`)),
		"isolate-ports": boolean(),
		"tag":           integer(1, 16777215),
		"vlanaware":     boolean(),
		"zone":          text(),
	},
	Types: kinds(map[string]string{
		"vnet": "alias? isolate-ports? tag? vlanaware? zone",
	}),
}

// Subnets is sdn/subnets.cfg.
var Subnets = &section.Definition{
	ID: named("pve-sdn-subnet-id"),
	Base: schema.Keys{
		"dhcp-dns-server": named("ip"),
		"dhcp-range": many(properties(schema.Keys{
			"end-address":   required(named("ip")),
			"start-address": required(named("ip")),
		})),
		"dnszoneprefix": named("dns-name"),
		"gateway":       named("ip"),
		"snat":          boolean(),
		"vnet":          text(),
	},
	Types: kinds(map[string]string{
		"subnet": "dhcp-dns-server? dhcp-range? dnszoneprefix? gateway? snat? vnet",
	}),
}

// Controllers is sdn/controllers.cfg.
var Controllers = &section.Definition{
	ID: length(2, 64, matches("[a-zA-Z][a-zA-Z0-9_-]*[a-zA-Z0-9]")),
	Base: schema.Keys{
		"asn":                         integer(0, 4294967295),
		"bgp-multipath-as-path-relax": boolean(),
		"ebgp":                        boolean(),
		"ebgp-multihop":               integer(),
		"fabric":                      named("pve-sdn-fabric-id"),
		"isis-domain":                 text(),
		"isis-ifaces":                 named("pve-iface-list"),
		"isis-net":                    length(20, 50, matches(`[a-fA-F0-9]{2}(\.[a-fA-F0-9]{4}){3,9}\.[a-fA-F0-9]{2}`)),
		"loopback":                    text(),
		"node":                        named("pve-node"),
		"peers":                       named("ip-list"),
	},
	Types: kinds(map[string]string{
		"bgp":    "asn bgp-multipath-as-path-relax? ebgp? ebgp-multihop? loopback? node peers",
		"evpn":   "asn fabric? peers?",
		"faucet": "",
		"isis":   "isis-domain isis-ifaces isis-net loopback? node",
	}),
}

// IPAMs is sdn/ipams.cfg: who hands out addresses.
var IPAMs = &section.Definition{
	ID: length(2, 64, matches("[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]")),
	Base: schema.Keys{
		"fingerprint": matches("([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}"),
		"section":     integer(),
		"token":       text(),
		"url":         text(),
	},
	Types: kinds(map[string]string{
		"netbox":  "fingerprint? token url",
		"phpipam": "fingerprint? section token url",
		"pve":     "",
	}),
}

// DNSServers is sdn/dns.cfg.
var DNSServers = &section.Definition{
	ID: length(2, 64, matches("[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]")),
	Base: schema.Keys{
		"fingerprint":   matches("([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}"),
		"key":           text(),
		"reversemaskv6": integer(),
		"ttl":           integer(),
		"url":           text(),
	},
	Types: kinds(map[string]string{
		"powerdns": "fingerprint? key reversemaskv6? ttl? url",
	}),
}

// Fabrics is sdn/fabrics.cfg: routed networks between nodes.
var Fabrics = &section.Definition{
	Base: schema.Keys{
		"area":           text(),
		"csnp_interval":  number(1, 600),
		"hello_interval": number(1, 600),
		"interfaces": many(properties(schema.Keys{
			"hello_multiplier": integer(2, 100),
			"ip":               named("CIDRv4"),
			"ip6":              named("CIDRv6"),
			"name":             required(named("pve-iface")),
		})),
		"ip":         named("ipv4"),
		"ip6":        named("ipv6"),
		"ip6_prefix": named("CIDR"),
		"ip_prefix":  named("CIDR"),
	},
	Types: kinds(map[string]string{
		"openfabric_fabric": "csnp_interval? hello_interval? ip6_prefix? ip_prefix?",
		"openfabric_node":   "interfaces? ip? ip6?",
		"ospf_fabric":       "area? ip6_prefix? ip_prefix?",
		"ospf_node":         "interfaces? ip? ip6?",
	}),
}
