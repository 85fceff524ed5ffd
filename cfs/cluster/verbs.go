package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"etcpve/cfs/control"
	"etcpve/cfs/join"
	"etcpve/cfs/peer"
)

// A Restart makes the daemon start again, after the answer.
type Restart struct {
	Empty func() // with an empty tree, to be filled by the cluster
	Alone func() // with its tree, as a group of one
}

// Verbs returns what pvecm may ask of the cluster through the local socket.
func (c *Cluster) Verbs() map[string]control.Verb {
	restart := c.config.Restart
	return map[string]control.Verb{
		"create": verb(func(ctx context.Context, f Founding) (any, error) {
			err := c.Create(ctx, f)
			if err == nil && f.NodeID != 0 && f.NodeID != c.config.ID {
				restart.Alone()
			}
			return nil, err
		}),
		"prepare": verb(func(ctx context.Context, r join.Request) (any, error) { return c.Prepare(ctx, r) }),
		"remove":  verb(func(ctx context.Context, node string) (any, error) { return nil, c.Remove(ctx, node) }),
		"invite": verb(func(_ context.Context, seconds int64) (any, error) {
			return c.Invite(c.config.Now().Add(time.Duration(seconds) * time.Second))
		}),
		"recruit": verb(func(ctx context.Context, r Recruit) (any, error) { return nil, c.Recruit(ctx, r) }),
		"status":  verb(func(context.Context, any) (any, error) { return c.Report(), nil }),
		"join": verb(func(ctx context.Context, e Entry) (any, error) {
			if err := c.Join(ctx, e); err != nil {
				return nil, err
			}
			restart.Empty()
			return nil, nil
		}),
		"expect": verb(func(ctx context.Context, expected uint32) (any, error) { return nil, c.Expect(ctx, expected) }),
		"survive": verb(func(ctx context.Context, expected uint32) (any, error) {
			if err := c.Survive(ctx, expected); err != nil {
				return nil, err
			}
			restart.Alone()
			return nil, nil
		}),
	}
}

// verb gives a function its argument from JSON.
func verb[T any](f func(context.Context, T) (any, error)) control.Verb {
	return func(ctx context.Context, in json.RawMessage) (any, error) {
		var arg T
		if err := json.Unmarshal(in, &arg); err != nil {
			return nil, fmt.Errorf("malformed request: %w", err)
		}
		return f(ctx, arg)
	}
}

// Invite returns join information with a token that is good until then.
func (c *Cluster) Invite(until time.Time) (i join.Information, err error) {
	own, member := c.Definition().Node(c.config.Node)
	if !member {
		return i, ErrAlone
	}
	secret, err := c.config.Home.Secret()
	if err != nil {
		return i, err
	}
	fingerprint, err := c.config.Home.Fingerprint()
	if err != nil {
		return i, err
	}
	i = join.Information{Address: own.Address(), Port: c.config.Port, Fingerprint: fingerprint, Cluster: c.Definition().Cluster}
	i.Token, err = join.NewToken(secret, until)
	return i, err
}

// An Entry says how this node enters a cluster.
type Entry struct {
	Information join.Information `json:"information"` // of a member; with a token or
	Password    string           `json:"password"`    // root's on that member
	Addresses   []netip.Addr     `json:"addresses"`   // of this node, one for each link; none: the one that reaches the member
	NodeID      uint32           `json:"nodeid"`
	Votes       *uint32          `json:"votes"`
	Force       bool             `json:"force"` // even with guests, or as a node that is in the definition already
}

// Join enters a cluster: this node becomes known to it and keeps what it was
// given, but still has its own tree.
func (c *Cluster) Join(ctx context.Context, e Entry) error {
	if err := c.mayJoin(e); err != nil {
		return err
	}
	address := net.JoinHostPort(e.Information.Address, strconv.Itoa(int(e.Information.Port)))
	if len(e.Addresses) == 0 {
		own, err := ownAddress(ctx, address)
		if err != nil {
			return err
		}
		e.Addresses = []netip.Addr{own}
	}
	request := join.Request{
		Node: c.config.Node, Addresses: e.Addresses, Port: c.config.Port, NodeID: e.NodeID, Votes: e.Votes,
		Token: e.Information.Token, Password: e.Password, Force: e.Force, Witness: c.config.Witness,
	}
	w, key, err := join.Ask(ctx, request, func(ctx context.Context, body []byte) ([]byte, error) {
		return peer.Contact(ctx, address, e.Information.Fingerprint, body)
	}, c.config.Now())
	if err != nil {
		return err
	}
	if _, err := define(w.Definition); err != nil {
		return errors.Join(errors.New("the cluster's definition is not usable"), err)
	}
	return c.config.Home.Settle(w, key)
}

// mayJoin says why this node may not give up its tree for that of a cluster. A
// node that was removed knows nothing of it, so one that
// has no quorum may ask: the cluster refuses a node that is a member still. One that
// has quorum may leave it, when forced, for that of a survivor of the same cluster.
// Guests of its own would be lost, unless the cluster is the one that has them too.
func (c *Cluster) mayJoin(e Entry) error {
	d := c.Definition()
	same := len(d.Nodes) > 0 && d.Cluster == e.Information.Cluster
	if len(d.Nodes) > 0 && c.order.Status().Quorate && !(same && e.Force) {
		return fmt.Errorf("this node is in cluster %s already", d.Cluster)
	}
	if same || c.config.Witness {
		return nil
	}
	if _, guests := c.config.Tree.Guests(); len(guests) > 0 && !e.Force {
		return fmt.Errorf("this node has guests (%d, the first is %d): their VMIDs may be taken in the cluster", len(guests), guests[0].VMID)
	}
	return nil
}

// ownAddress finds the address from which this node reaches another. No packet
// is sent.
func ownAddress(ctx context.Context, to string) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", to)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way to %s: %w", to, err)
	}
	defer conn.Close()
	own, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return own.Addr().Unmap(), err
}

// A Report is what pvecm status shows.
type Report struct {
	Cluster   string   `json:"cluster"`
	Version   uint64   `json:"version"`
	Node      string   `json:"node"`
	Began     int64    `json:"began"` // when this node started, or started again, in nanoseconds
	Quorate   bool     `json:"quorate"`
	Highest   uint32   `json:"highest"`   // votes of all nodes
	Expected  uint32   `json:"expected"`  // votes of all but the nodes that a survivor has gone on without
	Present   uint32   `json:"present"`   // votes of the nodes that answer
	Decider   string   `json:"decider"`   // the node that has a majority of all votes, if there is one
	Preferred bool     `json:"preferred"` // some node has more votes than count
	Wanted    int      `json:"wanted"`    // how many voters there should be
	Leader    string   `json:"leader"`
	Term      uint64   `json:"term"`
	Applied   uint64   `json:"applied"`
	Trouble   string   `json:"trouble"` // why this node does not use all its links
	Nodes     []Member `json:"nodes"`
	Witness   *Member  `json:"witness,omitempty"`
}

// A Member is one node of a Report.
type Member struct {
	Name    string `json:"name"`
	ID      uint32 `json:"id"`
	Votes   uint32 `json:"votes"`
	Address string `json:"address"`
	Online  bool   `json:"online"`
	Role    string `json:"role"` // voter, learner, or none yet
	Links   []Link `json:"links"`
}

// Report says how the cluster looks from this node.
func (c *Cluster) Report() Report {
	d, s, alive, ways := c.Definition(), c.order.Status(), c.Alive(), c.ways()
	r := Report{Cluster: d.Cluster, Version: d.Version, Node: c.config.Node, Began: c.began, Quorate: s.Quorate, Term: s.Term, Applied: s.Applied,
		Wanted: c.wanted(d), Trouble: c.troubled()}
	if n, ok := d.Decider(); ok {
		r.Decider = n.Name
	}
	lost := c.lost()
	for _, n := range d.Nodes {
		m := Member{Name: n.Name, ID: n.ID, Votes: d.Counted(n), Address: n.Address(), Online: slices.Contains(alive, n.Name), Role: "none yet", Links: c.linksOf(d, n, ways)}
		switch id := uint64(n.ID); {
		case slices.Contains(s.Voters, id):
			m.Role = "voter"
		case slices.Contains(s.Learners, id):
			m.Role = "learner"
		}
		r.Preferred = r.Preferred || m.Votes < n.Votes
		r.Highest += m.Votes
		if !slices.Contains(lost, n.Name) {
			r.Expected += m.Votes
		}
		if m.Online {
			r.Present += m.Votes
		}
		if uint64(n.ID) == s.Leader {
			r.Leader = n.Name
		}
		if n.Witness {
			r.Witness = &m
			continue
		}
		r.Nodes = append(r.Nodes, m)
	}
	return r
}
