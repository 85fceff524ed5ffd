// Package cluster is a node's part in its cluster.
//
// It owns the definition (corosync.conf) as this node knows it, and what follows
// from it: the streams to the other members, the gossip, and, on the leader, the
// steps that make the group of consensus what the definition asks for. It forms
// a cluster, lets nodes in and takes them out. It never applies a change: it
// proposes, as everybody else does.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/cluster/presence"
	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/membership"
	"etcpve/cfs/peer"
	"etcpve/cfs/status"
	"etcpve/cfs/status/spread"
	"etcpve/cfs/tree"
)

// Port is where members listen for streams unless told otherwise; gossip uses
// the next one.
const Port = 5405

// Order is what the cluster needs of consensus.
type Order interface {
	Inbox
	Propose(ctx context.Context, c *command.Command) (tree.Result, error)
	SetMember(ctx context.Context, seen consensus.Status, id uint64, role consensus.Role) error
	Record
}

// Record is what consensus knows of its log and its group.
type Record interface {
	Status() consensus.Status
	Position(ctx context.Context) (consensus.Position, error)
	Holds(ctx context.Context, m consensus.Mark) (bool, error)
}

// Inbox is what members tell consensus, and ask of it.
type Inbox interface {
	StepFrom(ctx context.Context, from uint64, message []byte) error
	SnapshotSent(to uint64, arrived bool)
	Unreachable(to uint64)
	Committed(ctx context.Context, after uint64) ([]byte, error)
	Feed(ctx context.Context, bundle []byte) error
}

// Config of a Cluster.
type Config struct {
	Node     string
	ID       uint32 // of this node, as consensus knows it
	Home     home.Home
	Port     uint16 // 0: Port
	Timing   membership.Timing
	Fresh    bool                                             // the node is in a cluster, but its log is empty
	Witness  bool                                             // the node only votes: nobody has it mounted
	Password func(ctx context.Context, password string) error // says whether it is that of root here
	Restart  Restart
	Tree     *tree.Tree
	Store    *status.Store
	Log      *status.Log
	Now      func() time.Time
	Logger   *slog.Logger
}

// Cluster is a node's part in its cluster; a lone node has one that rests.
type Cluster struct {
	config Config
	began  int64 // when it was made
	log    *slog.Logger
	order  Order
	ctx    context.Context // of Run
	spread *spread.Spreader
	seen   *presence.Presence
	relay  *relay
	pieces pieces
	large  chan transfer
	edited chan struct{}                                         // the definition in the tree may have changed
	routes atomic.Pointer[map[netip.AddrPort][]membership.Route] // of gossip, by address
	group  atomic.Pointer[string]                                // to which this run belongs; nil before it has one
	fresh  atomic.Bool                                           // the group may still count on a log that is gone: stay silent

	mu         sync.Mutex // guards what follows
	definition corosync.Definition
	peers      *peer.Peers
	gossip     *membership.Gossip
	trouble    string // why not all links of this node are used
}

// New prepares the part of a node, which knows the definition from its home if
// there is one.
func New(config Config) (*Cluster, error) {
	if config.Port == 0 {
		config.Port = Port
	}
	c := &Cluster{
		config: config, log: config.Logger, began: config.Now().UnixNano(),
		seen:   presence.New(config.Now),
		relay:  newRelay(),
		pieces: pieces{parts: map[string][]byte{}},
		large:  make(chan transfer, 8),
		edited: make(chan struct{}, 1),
	}
	c.spread = spread.New(config.Node, config.Store, config.Log, c.seen.IsAlive, c.askStatus, config.Logger)
	c.fresh.Store(config.Fresh)
	d, _, err := config.Home.Definition()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	c.definition = d
	c.chart(d)
	return c, nil
}

// Definition returns the definition as this node knows it; that of a lone node
// has no nodes.
func (c *Cluster) Definition() corosync.Definition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.definition
}

// Alive returns the names of the members that answer, this node included.
func (c *Cluster) Alive() []string {
	c.mu.Lock()
	g := c.gossip
	c.mu.Unlock()
	if g == nil {
		return []string{c.config.Node}
	}
	return g.Members()
}

// Notice tells the cluster what was applied; it does not block.
func (c *Cluster) Notice(changes []tree.Change) {
	signal(c.relay.ahead)
	signal(c.relay.tell)
	if slices.ContainsFunc(changes, func(ch tree.Change) bool { return ch.Path == corosync.File || ch.From == corosync.File }) {
		c.Reread()
	}
}

// Reread makes the cluster look at the definition in the tree again.
func (c *Cluster) Reread() { signal(c.edited) }

// Tell spreads a value that this node has set.
func (c *Cluster) Tell(v status.Value) {
	if g := c.speaker(); g != nil {
		c.spread.Value(g, v)
	}
}

// TellEntry spreads an entry that this node added to the cluster log.
func (c *Cluster) TellEntry(e status.LogEntry) {
	if g := c.speaker(); g != nil {
		c.spread.Entry(g, e)
	}
}

func (c *Cluster) speaker() *membership.Gossip {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gossip
}

// Attach tells the cluster through which consensus it proposes. It comes before
// anything is asked of it.
func (c *Cluster) Attach(order Order) { c.order = order }

// Run takes part until ctx ends: as soon as a definition names this node, it
// listens and speaks.
func (c *Cluster) Run(ctx context.Context) error {
	c.ctx = ctx
	for ctx.Err() == nil {
		c.adopt()
		if own, member := c.Definition().Node(c.config.Node); member {
			if err := c.take(ctx, own); err != nil {
				return err
			}
			continue
		}
		if c.config.Witness {
			return c.awaitSetup(ctx)
		}
		select {
		case <-ctx.Done():
		case <-c.edited:
		}
	}
	return nil
}

// take runs a member's part until ctx ends or it has to sit elsewhere.
func (c *Cluster) take(ctx context.Context, own corosync.Node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.fix(); err != nil {
		return err
	}
	s, err := c.sit(ctx, own)
	if err != nil {
		c.blame(err)
		c.rest(ctx, retryEvery)
		return nil
	}
	peers, gossip := s.peers, s.gossip
	c.mu.Lock()
	c.peers, c.gossip = peers, gossip
	c.mu.Unlock()
	c.log.Info("member of a cluster", "node", c.config.Node, "address", s.first.String(), "cluster", c.Definition().Cluster)

	var working sync.WaitGroup
	failed := make(chan error, 1)
	working.Go(func() { failed <- peers.Run(ctx, s.opened) })
	working.Go(func() { c.carry(ctx, peers) })
	working.Go(func() { c.spread.Run(ctx, gossip) })
	working.Go(func() { c.herald(ctx, gossip) })
	working.Go(func() { c.catchUp(ctx, peers) })
	working.Go(func() { c.tellLearners(ctx, peers) })
	working.Go(func() { c.learn(ctx) })
	working.Go(func() { c.reconcile(ctx, peers) })
	working.Go(func() { c.begin(ctx, peers) })
	working.Go(func() { c.recall(ctx, peers) })
	working.Go(func() { gossip.KeepJoined(ctx, time.Second, c.others) })
	err = c.follow(ctx, s, failed)
	cancel()
	c.mu.Lock()
	c.peers, c.gossip = nil, nil
	c.mu.Unlock()
	working.Wait()
	return errors.Join(err, gossip.Stop(time.Second))
}

// rest waits until the definition changes, for as long as is given.
func (c *Cluster) rest(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.edited:
	case <-timer.C:
	}
}

// follow watches the definition and the members until ctx ends, this node's part
// changes, or the streams fail.
func (c *Cluster) follow(ctx context.Context, s *seat, failed <-chan error) error {
	c.mark(s.gossip)
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for due := true; ; {
		own, member := c.Definition().Node(c.config.Node)
		if !member {
			return nil
		}
		if due || !maps.Equal(own.Addresses, s.own.Addresses) {
			if !c.reseat(ctx, s, own) {
				return nil
			}
			due = false
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-s.gossip.Changed():
			c.mark(s.gossip)
		case <-retry.C:
			due = c.troubled() != ""
		case <-c.edited:
			c.adopt()
		}
	}
}

// mark notes who answers, forgets what the dead said and asks those that have come.
func (c *Cluster) mark(gossip *membership.Gossip) {
	came, gone := c.seen.Update(gossip.Members())
	for _, node := range gone {
		c.log.Warn("node does not answer", "node", node)
		c.config.Store.DropNode(node)
	}
	for _, node := range came {
		c.spread.Came(node)
	}
}

// adopt takes over the definition from the tree if it is newer than the one that
// is known, and keeps a copy for the next start.
func (c *Cluster) adopt() {
	e, ok := c.config.Tree.Lookup(corosync.File)
	if !ok {
		return
	}
	d, err := define(e.Data)
	if err != nil {
		c.log.Error("definition not taken over", "path", corosync.File, "err", err)
		return
	}
	known := c.Definition()
	if d.Version <= known.Version {
		return
	}
	_, text, err := c.config.Home.Definition()
	if errors.Is(err, os.ErrNotExist) {
		c.log.Warn("definition has no effect: this node is in no cluster", "path", corosync.File)
		return
	}
	// One that this node was taken out of is not kept: the node starts with what it
	// knew before, finds itself without quorum, and may join again.
	if _, member := d.Node(c.config.Node); member && (err != nil || !bytes.Equal(text, e.Data)) {
		if err := c.config.Home.Note(e.Data); err != nil {
			c.log.Error("definition not kept", "err", err)
		}
	}
	c.chart(d)
	c.mu.Lock()
	c.definition = d
	peers := c.peers
	c.mu.Unlock()
	c.log.Info("definition taken over", "version", d.Version, "nodes", len(d.Nodes))
	for _, n := range known.Nodes {
		now, stays := d.Node(n.Name)
		switch {
		case peers == nil:
		case !stays:
			peers.Forget(n.Name)
		case !slices.Equal(known.Addresses(n), d.Addresses(now)):
			peers.Moved(n.Name)
		}
	}
}

func define(text []byte) (corosync.Definition, error) {
	root, err := corosync.Parse(string(text))
	if err != nil {
		return corosync.Definition{}, err
	}
	return corosync.Define(root)
}

// Identity implements peer.Directory. The group is the one of the log that this run
// has, whatever the home says by now: a node that is about to begin anew in another
// group must not speak there with what it knows of the old one.
func (c *Cluster) Identity() (peer.Identity, error) {
	identity, err := c.config.Home.Identity()
	if group := c.group.Load(); group != nil {
		identity.Group = *group
	}
	return identity, err
}

// fix notes to which group the streams of this run belong.
func (c *Cluster) fix() error {
	if c.group.Load() != nil {
		return nil
	}
	secret, err := c.config.Home.Secret()
	if err == nil {
		group := home.GroupOf(secret)
		c.group.Store(&group)
	}
	return err
}

// route finds the streams and the name of a member by its id.
func (c *Cluster) route(id uint64) (*peer.Peers, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.definition.Nodes {
		if uint64(n.ID) == id {
			return c.peers, n.Name
		}
	}
	return nil, ""
}

func (c *Cluster) askStatus(ctx context.Context, node string, body []byte) ([]byte, error) {
	c.mu.Lock()
	peers := c.peers
	c.mu.Unlock()
	if peers == nil {
		return nil, peer.ErrUnreachable
	}
	return peers.Call(ctx, node, kindStatus, body)
}
