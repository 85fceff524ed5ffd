package user

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/text"
)

// Write returns the canonical text of a configuration.
func Write(c *Config) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		u := c.Users[name]
		line(&b, "user", name, flag(u.Enable), strconv.FormatInt(u.Expire, 10),
			text.Encode(u.First), text.Encode(u.Last), u.Email, text.Encode(u.Comment), u.Keys)
		for _, id := range slices.Sorted(maps.Keys(u.Tokens)) {
			t := u.Tokens[id]
			line(&b, "token", name+"!"+id, strconv.FormatInt(t.Expire, 10), flag(t.Privsep), text.Encode(t.Comment))
		}
	}
	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		line(&b, "group", name, join(g.Users), text.Encode(g.Comment))
	}
	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(c.Pools)) {
		p := c.Pools[name]
		var vms []string
		for _, vmid := range slices.Sorted(maps.Keys(p.VMs)) {
			vms = append(vms, strconv.Itoa(vmid))
		}
		line(&b, "pool", name, text.Encode(p.Comment), strings.Join(vms, ","), join(p.Storages))
	}
	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(c.Roles)) {
		line(&b, "role", name, join(c.Roles[name]))
	}
	b.WriteByte('\n')
	writeACL(&b, "", c.ACL)
	return b.String()
}

func line(b *strings.Builder, kind string, fields ...string) {
	fmt.Fprintf(b, "%s:%s:\n", kind, strings.Join(fields, ":"))
}

func flag(truth bool) string {
	if truth {
		return "1"
	}
	return "0"
}

func join(names map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(names)), ",")
}

// writeACL writes a node and those below it. All who have the same roles with
// the same reach share a line.
func writeACL(b *strings.Builder, path string, n *Node) {
	shared := [2]map[string][]string{{}, {}} // by reach: list of roles → who
	add := func(prefix string, list map[string]map[string]bool) {
		for who, roles := range list {
			if prefix == "" && who == root {
				continue
			}
			byReach := [2]map[string]bool{{}, {}}
			for role, propagate := range roles {
				reach := 0
				if propagate {
					reach = 1
				}
				byReach[reach][role] = true
			}
			for reach, names := range byReach {
				if len(names) > 0 {
					key := join(names)
					shared[reach][key] = append(shared[reach][key], prefix+who)
				}
			}
		}
	}
	add("@", n.Groups)
	add("", n.Users)
	add("", n.Tokens)
	name := path
	if name == "" {
		name = "/"
	}
	for reach, lines := range shared {
		for _, roles := range slices.Sorted(maps.Keys(lines)) {
			slices.Sort(lines[roles])
			line(b, "acl", strconv.Itoa(reach), name, strings.Join(lines[roles], ","), roles)
		}
	}
	for _, child := range slices.Sorted(maps.Keys(n.Children)) {
		writeACL(b, path+"/"+child, n.Children[child])
	}
}
