package facts

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"etcpve/agents/firewall"
)

// resolvePatience is how long the name of a member may take to resolve.
const resolvePatience = time.Second

// services are what members of the cluster offer each other: changes and joins
// by streams, gossip by both.
var services = []firewall.Service{
	{Protocol: "tcp", First: 5405, Last: 5405, Joining: true},
	{Protocol: "tcp", First: 5406, Last: 5406},
	{Protocol: "udp", First: 5405, Last: 5406},
}

// node reads corosync.conf and asks for the machine's addresses.
func (r *Reader) node() (n firewall.Node, err error) {
	n.Services = services
	content, err := os.ReadFile(filepath.Join(r.Tree, "corosync.conf"))
	if err == nil {
		var c Cluster
		if c, err = ParseCluster(string(content)); err == nil {
			n.Transport = c.Transport
			n.Rings = c.Rings(r.Node, r.resolve)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	own, found := r.Address(n.Rings)
	if !found {
		return n, err
	}
	addresses, e := r.addresses()
	for _, p := range addresses {
		if p.Contains(own) && !p.IsSingleIP() {
			n.LocalNetworks = []netip.Prefix{p.Masked()}
			break
		}
	}
	return n, errors.Join(err, e)
}

// Address returns the node's own address: on the first of the cluster's
// networks, or else the one that its name stands for.
func (r *Reader) Address(rings []firewall.Ring) (netip.Addr, bool) {
	if len(rings) > 0 {
		return rings[0].Own, true
	}
	return r.resolve(r.Node)
}

func (r *Reader) addresses() ([]netip.Prefix, error) {
	if r.Addresses != nil {
		return r.Addresses()
	}
	return kernelAddresses()
}

// A resolved name stays what it is: what the rules say must not depend on
// whether the name server can be reached. One that does not resolve is asked
// for again after a while.
type resolved struct {
	address netip.Addr
	asked   time.Time
}

// retry is when a name that did not resolve is asked for again.
const retry = 5 * time.Minute

func (r *Reader) resolve(name string) (netip.Addr, bool) {
	known, ok := r.names[name]
	if !ok || !known.address.IsValid() && time.Since(known.asked) > retry {
		if r.names == nil {
			r.names = map[string]resolved{}
		}
		known = resolved{lookUp(name), time.Now()}
		r.names[name] = known
	}
	return known.address, known.address.IsValid()
}

// lookUp returns the first address of a name that other machines can use.
func lookUp(name string) netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), resolvePatience)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	for _, a := range list {
		if a = a.Unmap(); err == nil && !a.IsLoopback() {
			return a
		}
	}
	return netip.Addr{}
}
