package cloudinit

import "strings"

// context is the form of OpenNebula: variables for a shell of the guest's.
func (g guest) context() Data {
	var b strings.Builder
	set := func(name, value string) {
		if value == "" {
			return
		}
		b.WriteString(name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n")
	}
	set("SET_HOSTNAME", g.host)
	set("USERNAME", g.user)
	password := "PASSWORD"
	if strings.HasPrefix(g.password, "$") {
		password = "CRYPTED_PASSWORD"
	}
	set(password, g.password)
	set("SSH_PUBLIC_KEY", strings.Join(g.keys, "\n"))
	set("NETWORK", "YES")
	set("DNS", strings.Join(g.nameservers, " "))
	set("SEARCH_DOMAIN", strings.Join(g.search, " "))
	for _, n := range g.nics {
		name := strings.ToUpper(n.name)
		set(name+"_MAC", n.mac)
		switch n.ip4 {
		case "":
		case "dhcp":
			set(name+"_DHCP", "YES")
		default:
			address, mask := split(n.ip4)
			set(name+"_IP", address)
			set(name+"_MASK", mask)
			set(name+"_GATEWAY", n.gw4)
		}
		if address, bits, ok := strings.Cut(n.ip6, "/"); ok {
			set(name+"_IP6", address)
			set(name+"_IP6_PREFIX_LENGTH", bits)
			set(name+"_GATEWAY6", n.gw6)
		}
	}
	return Data{User: []byte(b.String())}
}
