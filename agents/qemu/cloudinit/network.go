package cloudinit

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/config"
)

// A nic is one network card with what it shall be set to.
type nic struct {
	name, mac string
	ip4, ip6  string // an address with its prefix length, dhcp, auto, or ""
	gw4, gw6  string
}

// nics are the cards that have an ipconfig.
func nics(c config.Config) (all []nic, err error) {
	for i, key := range c.Indexed("net") {
		n, _ := config.Index(key, "net")
		ipconfig := fmt.Sprintf("ipconfig%d", n)
		if c[ipconfig] == "" {
			continue
		}
		card, err := cmdline.NICOptions(c, key)
		if err != nil {
			return nil, err
		}
		o, err := c.Options(ipconfig, "")
		if err != nil {
			return nil, err
		}
		for option, ok := range map[string]func(string) bool{"ip": isIPv4, "ip6": isIPv6} {
			if o[option] != "" && !ok(o[option]) {
				return nil, config.Errorf(ipconfig, "%s: %q is neither an address with its prefix length nor dhcp", option, o[option])
			}
		}
		all = append(all, nic{name: fmt.Sprintf("eth%d", i), mac: strings.ToLower(card["macaddr"]), ip4: o["ip"], ip6: o["ip6"], gw4: o["gw"], gw6: o["gw6"]})
	}
	return all, nil
}

func isIPv4(s string) bool {
	p, err := netip.ParsePrefix(s)
	return s == "dhcp" || err == nil && p.Addr().Is4()
}

func isIPv6(s string) bool {
	p, err := netip.ParsePrefix(s)
	return s == "dhcp" || s == "auto" || err == nil && p.Addr().Is6()
}

// split returns the address and the mask of an IPv4 prefix that was checked.
func split(prefix string) (address, mask string) {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return prefix, ""
	}
	return p.Addr().String(), net.IP(net.CIDRMask(p.Bits(), 32)).String()
}

// networkConfig is version 1 of cloud-init's own form.
func (g guest) networkConfig() []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version: 1")
	line("config:")
	for _, n := range g.nics {
		line("    - type: physical")
		line("      name: %s", n.name)
		if n.mac != "" {
			line("      mac_address: '%s'", n.mac)
		}
		line("      subnets:")
		n.subnets(line)
	}
	if len(g.nameservers)+len(g.search) > 0 {
		line("    - type: nameserver")
		items := func(name string, values []string) {
			if len(values) > 0 {
				line("      %s:", name)
			}
			for _, v := range values {
				line("      - '%s'", v)
			}
		}
		items("address", g.nameservers)
		items("search", g.search)
	}
	return []byte(b.String())
}

func (n nic) subnets(line func(format string, args ...any)) {
	switch n.ip4 {
	case "":
	case "dhcp":
		line("      - type: dhcp4")
	default:
		address, mask := split(n.ip4)
		line("      - type: static")
		line("        address: '%s'", address)
		line("        netmask: '%s'", mask)
		if n.gw4 != "" {
			line("        gateway: '%s'", n.gw4)
		}
	}
	switch n.ip6 {
	case "":
	case "dhcp":
		line("      - type: dhcp6")
	case "auto":
		line("      - type: ipv6_slaac")
	default:
		line("      - type: static6")
		line("        address: '%s'", n.ip6)
		if n.gw6 != "" {
			line("        gateway: '%s'", n.gw6)
		}
	}
}

// interfaces is the form of Debian's /etc/network/interfaces, which a config
// drive has.
func (g guest) interfaces() []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("auto lo")
	line("iface lo inet loopback")
	for _, n := range g.nics {
		line("")
		line("auto %s", n.name)
		n.stanzas(line)
	}
	if len(g.nameservers) > 0 {
		line("        dns_nameservers %s", strings.Join(g.nameservers, " "))
	}
	if len(g.search) > 0 {
		line("        dns_search %s", strings.Join(g.search, " "))
	}
	return []byte(b.String())
}

func (n nic) stanzas(line func(format string, args ...any)) {
	switch n.ip4 {
	case "":
	case "dhcp":
		line("iface %s inet dhcp", n.name)
	default:
		address, mask := split(n.ip4)
		line("iface %s inet static", n.name)
		line("        address %s", address)
		line("        netmask %s", mask)
		if n.gw4 != "" {
			line("        gateway %s", n.gw4)
		}
	}
	switch n.ip6 {
	case "":
	case "dhcp", "auto":
		line("iface %s inet6 %s", n.name, n.ip6)
	default:
		address, bits, _ := strings.Cut(n.ip6, "/")
		line("iface %s inet6 static", n.name)
		line("        address %s", address)
		line("        netmask %s", bits)
		if n.gw6 != "" {
			line("        gateway %s", n.gw6)
		}
	}
}
