package schema

import (
	"net/netip"
	"regexp"
	"strings"
)

func ipv4(value string) error {
	if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
		return because("value does not look like a valid IPv4 address", value)
	}
	return nil
}

func ipv6(value string) error {
	if a, err := netip.ParseAddr(value); err != nil || !a.Is6() || a.Zone() != "" {
		return because("value does not look like a valid IPv6 address", value)
	}
	return nil
}

func anyIP(value string) error {
	if a, err := netip.ParseAddr(value); err != nil || a.Zone() != "" {
		return because("value does not look like a valid IP address", value)
	}
	return nil
}

// linkLocal accepts an address with the interface it belongs to.
func linkLocal(value string) error {
	a, err := netip.ParseAddr(value)
	if err != nil || !a.IsLinkLocalUnicast() {
		return because("value does not look like a valid IP address", value)
	}
	return nil
}

// mask accepts a netmask whose ones come first.
func mask(value string) error {
	a, err := netip.ParseAddr(value)
	if err != nil || !a.Is4() {
		return because("value does not look like a valid IP netmask", value)
	}
	b := a.As4()
	zeros := ^(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
	if zeros&(zeros+1) != 0 {
		return because("value does not look like a valid IP netmask", value)
	}
	return nil
}

// A CIDR keeps its host bits: it names an address and its network.
func cidr(value string) error {
	if !isPrefix(value, true) && !isPrefix(value, false) {
		return because("value does not look like a valid CIDR network", value)
	}
	return nil
}

func cidr4(value string) error {
	if !isPrefix(value, true) {
		return because("value does not look like a valid IPv4 network", value)
	}
	return nil
}

func cidr6(value string) error {
	if !isPrefix(value, false) {
		return because("value does not look like a valid IPv6 network", value)
	}
	return nil
}

func isPrefix(value string, four bool) bool {
	p, err := netip.ParsePrefix(value)
	return err == nil && p.Addr().Is4() == four
}

var (
	label     = regexp.MustCompile(`\A(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)\z`)
	aliasForm = regexp.MustCompile(`\A((dc|guest)/)?[A-Za-z][A-Za-z0-9_-]+\z`)
)

func dnsName(value string) error {
	for _, part := range strings.Split(value, ".") {
		if !label.MatchString(part) {
			return because("value does not look like a valid DNS name", value)
		}
	}
	return nil
}

func alias(value string) error {
	if !aliasForm.MatchString(value) {
		return because("invalid alias '%s'", value)
	}
	return nil
}
