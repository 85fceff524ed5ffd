package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/membership"
	"etcpve/cfs/peer"
)

// retryEvery is how often a link that could not be used is tried again.
const retryEvery = 5 * time.Second

// A seat is where a member listens: on one address for each link that it has.
type seat struct {
	peers  *peer.Peers
	gossip *membership.Gossip
	own    corosync.Node // by the definition that it was taken for
	first  netip.Addr    // by which the others know this node
	opened net.Listener  // of first
	stops  map[netip.Addr]func()
}

// places resolves the addresses of this node, the preferred one first. The error names
// those that cannot be.
func (c *Cluster) places(ctx context.Context, own corosync.Node) (list []netip.Addr, err error) {
	d := c.Definition()
	for _, name := range d.Addresses(own) {
		a, e := resolve(ctx, name, d.IPVersion)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		list = append(list, a)
	}
	return list, err
}

// sit takes the preferred of the addresses that can be had; reseat takes the others.
func (c *Cluster) sit(ctx context.Context, own corosync.Node) (s *seat, err error) {
	list, err := c.places(ctx, own)
	for _, a := range list {
		l, e := c.listen(ctx, a)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		gossip, e := c.startGossip(a)
		if e != nil {
			err = errors.Join(err, e, l.Close())
			continue
		}
		peers := peer.New(c.config.Node, c, c, c.doorman(), c.log)
		return &seat{peers: peers, gossip: gossip, own: own, first: a, opened: l, stops: map[netip.Addr]func(){}}, nil
	}
	return nil, err
}

// reseat makes a seat the one that the definition asks for, without a break: links that
// stay are not touched. It reports whether it can be: what others know this node by
// stays. What does not work is noted, and tried again.
func (c *Cluster) reseat(ctx context.Context, s *seat, own corosync.Node) bool {
	list, err := c.places(ctx, own)
	if len(list) > 0 && !slices.Contains(list, s.first) {
		return false
	}
	if len(list) == 0 {
		list = append(slices.Collect(maps.Keys(s.stops)), s.first) // stays where it is
	}
	s.own = own
	for a, stop := range s.stops {
		if !slices.Contains(list, a) {
			c.log.Info("link is not used any more", "address", a.String())
			stop()
			delete(s.stops, a)
		}
	}
	for _, a := range list {
		if s.stops[a] != nil || a == s.first {
			continue
		}
		stop, e := c.openLink(ctx, s, a)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		c.log.Info("link is used", "address", a.String(), "here", isLocal(a))
		s.stops[a] = stop
	}
	var gossip []netip.AddrPort
	for _, a := range list {
		gossip = append(gossip, netip.AddrPortFrom(a, c.gossipPort()))
	}
	c.blame(errors.Join(err, s.gossip.Relink(gossip)))
	return true
}

func (c *Cluster) openLink(ctx context.Context, s *seat, a netip.Addr) (stop func(), err error) {
	l, err := c.listen(ctx, a)
	if err != nil {
		return nil, err
	}
	return s.peers.Listen(ctx, l)
}

// blame notes, and logs when it is news, why not all links of this node are used.
func (c *Cluster) blame(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.mu.Lock()
	old := c.trouble
	c.trouble = text
	c.mu.Unlock()
	switch {
	case old == text:
	case text == "":
		c.log.Info("all links of this node are used")
	default:
		c.log.Error("not all links of this node are used", "err", err)
	}
}

func (c *Cluster) troubled() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// listen opens an address for streams, whether or not it is there just now, as while its
// interface is down.
func (c *Cluster) listen(ctx context.Context, a netip.Addr) (net.Listener, error) {
	config := net.ListenConfig{Control: membership.FreeBind}
	if !isLocal(a) {
		c.log.Warn("link has no address here yet", "address", a.String())
	}
	l, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(a, c.config.Port).String())
	if err != nil {
		return nil, fmt.Errorf("cluster: listen for members: %w", err)
	}
	return l, nil
}

// isLocal reports whether this machine has an address.
func isLocal(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	return err != nil || a.IsLoopback() || slices.ContainsFunc(list, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().WithZone("") == a.WithZone("")
	})
}

func (c *Cluster) startGossip(a netip.Addr) (*membership.Gossip, error) {
	secret, err := c.config.Home.Secret()
	if err != nil {
		return nil, err
	}
	return membership.Start(membership.Config{
		Node: c.config.Node, Listen: []netip.AddrPort{netip.AddrPortFrom(a, c.gossipPort())}, Key: secret, Timing: c.config.Timing, Log: c.log,
		Allowed: func(node string) bool { _, ok := c.Definition().Node(node); return ok },
		Routes:  func(to netip.AddrPort) []membership.Route { return (*c.routes.Load())[to] },
	}, carrier{c})
}
