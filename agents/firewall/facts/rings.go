package facts

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"etcpve/agents/firewall"
)

// A Cluster is what corosync.conf says of the cluster's networks.
type Cluster struct {
	Transport string
	members   []map[string]string // name, ring0_addr, ring1_addr, …
}

// ParseCluster reads corosync.conf as far as the firewall needs it. What it
// does not understand it ignores.
func ParseCluster(content string) (c Cluster) {
	c.Transport = "knet"
	var path []string
	for line := range strings.SplitSeq(content, "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutSuffix(line, "{"); ok {
			path = append(path, strings.TrimSpace(name))
			if slices.Equal(path, []string{"nodelist", "node"}) {
				c.members = append(c.members, map[string]string{})
			}
			continue
		}
		if line == "}" && len(path) > 0 {
			path = path[:len(path)-1]
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case slices.Equal(path, []string{"nodelist", "node"}):
			c.members[len(c.members)-1][key] = value
		case slices.Equal(path, []string{"totem"}) && key == "transport":
			c.Transport = value
		}
	}
	return c
}

var ringKey = regexp.MustCompile(`^ring\d+_addr$`)

// Rings returns the networks of the cluster as the node sees them: those on
// which it and another member both have an address. Resolve turns names into
// addresses; a name that it does not know has none.
func (c Cluster) Rings(node string, resolve func(name string) (netip.Addr, bool)) (rings []firewall.Ring) {
	i := slices.IndexFunc(c.members, func(m map[string]string) bool { return m["name"] == node })
	if i < 0 {
		return nil
	}
	self := c.members[i]
	for _, key := range keys(self) {
		own, ok := address(self[key], resolve)
		if !ok {
			continue
		}
		ring := firewall.Ring{Own: own}
		for j, m := range c.members {
			if peer, ok := address(m[key], resolve); ok && j != i {
				ring.Peers = append(ring.Peers, peer)
			}
		}
		rings = append(rings, ring)
	}
	return rings
}

func keys(member map[string]string) (list []string) {
	for key := range member {
		if ringKey.MatchString(key) {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

func address(text string, resolve func(string) (netip.Addr, bool)) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if text == "" || resolve == nil {
		return netip.Addr{}, false
	}
	return resolve(text)
}
