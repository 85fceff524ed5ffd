package corosync

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"etcpve/cfs/format/text"
)

// Verify is PVE's check: links are encrypted, every node has an address for each
// configured interface and the other way round, and without interfaces all nodes
// have the same links. Names instead of addresses are only warned of. The messages
// are PVE's, in the order by link, then node.
func Verify(root *Section, resolve func(name string) (ip string, ok bool)) (errors, warnings []text.Error) {
	totem, list := root.Sections["totem"], root.Sections["nodelist"]
	if list == nil || len(list.Repeated["node"]) == 0 {
		errors = append(errors, text.Error{File: File, Key: "nodelist", Message: "no nodes found"})
	}
	if totem == nil {
		errors = append(errors, text.Error{File: File, Key: "totem", Message: "no totem found"})
	}
	if len(errors) > 0 {
		return errors, nil
	}
	if cipher := totem.Entries["crypto_cipher"]; totem.Entries["secauth"] != "on" && (cipher == "" || cipher == "none") {
		warnings = append(warnings, text.Error{File: File, Line: totem.at("secauth"), Key: "totem: secauth",
			Message: "authentication/encryption is not explicitly enabled (secauth / crypto_cipher / crypto_hash)"})
	}
	nodes := list.Repeated["node"]
	names := slices.Sorted(maps.Keys(nodes))
	for link := range MaxLinks {
		linked := slices.ContainsFunc(names, func(name string) bool { _, has := nodes[name].Entries[ring(link)]; return has })
		for _, name := range names {
			address, has := nodes[name].Entries[ring(link)]
			found := text.Error{File: File, Line: nodes[name].at(ring(link)), Key: "node " + name + ": " + ring(link)}
			if found.Message = linkError(totem.Repeated["interface"], link, name, has, linked); found.Message != "" {
				errors = append(errors, found)
			}
			if !has {
				continue
			}
			if found.Message = nameWarning(link, name, address, resolve); found.Message != "" {
				warnings = append(warnings, found)
			}
		}
	}
	return errors, warnings
}

// linkError says what is wrong with a link of a node, which has it or not, as
// may others.
func linkError(interfaces map[string]*Section, link int, node string, has, linked bool) string {
	_, configured := interfaces[strconv.Itoa(link)]
	switch {
	case len(interfaces) == 0 && linked && !has:
		return fmt.Sprintf("node '%s' is missing link %d, which is configured on other nodes", node, link)
	case len(interfaces) == 0:
		return ""
	case has && !configured:
		return fmt.Sprintf("node '%s' has '%s', but there is no interface number %d configured", node, ring(link), link)
	case !has && configured:
		return fmt.Sprintf("node '%s' is missing address for interface number %d", node, link)
	}
	return ""
}

// nameWarning says what is doubtful about an address that is a name.
func nameWarning(link int, node, address string, resolve func(name string) (ip string, ok bool)) string {
	if _, err := netip.ParseAddr(address); err == nil {
		return ""
	}
	what := fmt.Sprintf("%s '%s' for node '%s'", ring(link), address, node)
	if ip, ok := resolve(address); ok {
		return what + " resolves to '" + ip + "' - consider replacing it with the currently resolved IP address for stability"
	}
	return "unable to resolve " + what + " to an IP address according to Corosync's resolve strategy - cluster could fail on restart!"
}

// Pick chooses which of the addresses of a name counts, by totem's ip_version:
// "ipv4" and "ipv6" take no other family, "ipv4-6" and "ipv6-4", which is the
// default, prefer one.
func Pick(list []netip.Addr, ipVersion string) (netip.Addr, bool) {
	for _, want := range map[string][]bool{"ipv4": {true}, "ipv6": {false}, "ipv4-6": {true, false}, "ipv6-4": {false, true}, "": {false, true}}[ipVersion] {
		if i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Unmap().Is4() == want }); i >= 0 {
			return list[i].Unmap(), true
		}
	}
	return netip.Addr{}, false
}
