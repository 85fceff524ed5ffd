package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/membership"
)

func (c *Cluster) gossipPort() uint16 { return c.config.Port + 1 }

// chart draws the ways by which gossip reaches other members that have several links
// in common with this node. A link named by a host name is not among them.
func (c *Cluster) chart(d corosync.Definition) {
	routes := map[netip.AddrPort][]membership.Route{}
	own, _ := d.Node(c.config.Node)
	at := func(n corosync.Node, link int) (netip.AddrPort, bool) {
		a, err := netip.ParseAddr(n.Addresses[link])
		return netip.AddrPortFrom(a, c.gossipPort()), err == nil
	}
	for _, n := range d.Nodes {
		var ways []membership.Route
		for _, link := range d.Links {
			from, here := at(own, link)
			to, there := at(n, link)
			if here && there {
				ways = append(ways, membership.Route{From: from, To: to})
			}
		}
		for _, w := range ways {
			if len(ways) > 1 && n.Name != c.config.Node {
				routes[w.To] = ways
			}
		}
	}
	c.routes.Store(&routes)
}

// others returns where the other members gossip.
func (c *Cluster) others() (addresses []string) {
	d := c.Definition()
	for _, n := range d.Nodes {
		if list := d.Addresses(n); n.Name != c.config.Node && len(list) > 0 {
			addresses = append(addresses, net.JoinHostPort(list[0], strconv.Itoa(int(c.gossipPort()))))
		}
	}
	return addresses
}

// Addresses implements peer.Directory.
func (c *Cluster) Addresses(node string) (addresses []string, member bool) {
	d := c.Definition()
	n, ok := d.Node(node)
	for _, a := range d.Addresses(n) {
		addresses = append(addresses, net.JoinHostPort(a, strconv.Itoa(int(c.config.Port))))
	}
	return addresses, ok
}

// A Link is one of the addresses of a node of a Report.
type Link struct {
	Number  int    `json:"number"`
	Address string `json:"address"`
	InUse   bool   `json:"inuse"`  // the streams from here to that node go by it
	Absent  bool   `json:"absent"` // it is this node's, and no interface has it
}

// linksOf describes the links of a node, in which ways says which are in use.
func (c *Cluster) linksOf(d corosync.Definition, n corosync.Node, ways map[string]string) (list []Link) {
	for _, number := range slices.Sorted(slices.Values(d.Links)) {
		if a := n.Addresses[number]; a != "" {
			ip, err := netip.ParseAddr(a)
			list = append(list, Link{number, a, ways[n.Name] == net.JoinHostPort(a, strconv.Itoa(int(c.config.Port))),
				n.Name == c.config.Node && err == nil && !isLocal(ip)})
		}
	}
	return list
}

// ways returns by which address each member is reached.
func (c *Cluster) ways() map[string]string {
	c.mu.Lock()
	peers := c.peers
	c.mu.Unlock()
	if peers == nil {
		return nil
	}
	return peers.Ways()
}

// resolve turns an address of the definition, which may be a name, into one to
// listen on.
func resolve(ctx context.Context, name, ipVersion string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a, nil
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cluster: own address %s: %w", name, err)
	}
	a, ok := corosync.Pick(list, ipVersion)
	if !ok {
		return a, fmt.Errorf("cluster: own address %s: none that %s allows", name, ipVersion)
	}
	return a, nil
}

// resolveWithin is for how long a save of the definition waits for all its names.
const resolveWithin = time.Second

// resolver returns what corosync.Verify asks for the address of a name. A save, which
// waits for it, has no context of its own.
func resolver(ipVersion string) func(name string) (string, bool) {
	end := time.Now().Add(resolveWithin)
	return func(name string) (string, bool) {
		ctx, cancel := context.WithDeadline(context.Background(), end)
		defer cancel()
		a, err := resolve(ctx, name, ipVersion)
		return a.String(), err == nil
	}
}
