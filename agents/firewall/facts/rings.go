package facts

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"etcpve/agents/firewall"
	"etcpve/cfs/format/corosync"
)

// A Cluster is what corosync.conf says of the cluster's networks.
type Cluster struct {
	Transport string
	Members   map[string]Member // by name
}

// A Member has an address on each of some networks: a number or a name.
type Member []string

// ParseCluster reads corosync.conf. A definition that cannot be read is an
// error, because the members would lose each other.
func ParseCluster(content string) (Cluster, error) {
	c := Cluster{Transport: "knet", Members: map[string]Member{}}
	root, err := corosync.Parse(content)
	if err != nil {
		return c, err
	}
	if totem := root.Sections["totem"]; totem != nil && totem.Entries["transport"] != "" {
		c.Transport = totem.Entries["transport"]
	}
	if list := root.Sections["nodelist"]; list != nil {
		for name, node := range list.Repeated["node"] {
			m := make(Member, corosync.MaxLinks)
			for link := range m {
				m[link] = node.Entries[fmt.Sprintf("ring%d_addr", link)]
			}
			c.Members[name] = m
		}
	}
	return c, nil
}

// A Resolver turns the name of a machine into its address.
type Resolver func(name string) (netip.Addr, bool)

// Rings returns the networks of the cluster as the node sees them: those on
// which it and another member both have an address. A name that the resolver
// does not know has none.
func (c Cluster) Rings(node string, resolve Resolver) (rings []firewall.Ring) {
	for link, text := range c.Members[node] {
		own, ok := address(text, resolve)
		if !ok {
			continue
		}
		ring := firewall.Ring{Own: own}
		for _, name := range slices.Sorted(maps.Keys(c.Members)) {
			if peer, ok := address(c.Members[name][link], resolve); ok && name != node {
				ring.Peers = append(ring.Peers, peer)
			}
		}
		rings = append(rings, ring)
	}
	return rings
}

func address(text string, resolve Resolver) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if text == "" || resolve == nil {
		return netip.Addr{}, false
	}
	return resolve(text)
}
