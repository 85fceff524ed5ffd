// Package membership knows which nodes of the cluster exist and answer, and
// spreads short news among them by gossip.
//
// It owns the gossip protocol (hashicorp/memberlist) and its tuning: a node
// that dies is missed within three seconds on a LAN. Gossip is encrypted with
// the cluster's key, and only nodes that the cluster's definition names are
// listened to. It never orders anything, and never keeps what it carries.
package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// MaxNews is how many bytes one piece of news may have: it must fit into one
// datagram with the protocol's own overhead, or it would silently never be
// sent. Larger things are announced by news and asked for.
const MaxNews = 1200

// ErrTooLarge says that news has more than MaxNews bytes.
var ErrTooLarge = errors.New("too large for gossip")

// A Carrier gives and takes what gossip carries. Its methods are called from
// the protocol's goroutines, must not block and must not keep their arguments.
type Carrier interface {
	// State returns everything a newcomer has to know. Two nodes exchange it
	// every few seconds, so it may be large but should not be huge.
	State() []byte
	// Merge takes what another node's State returned.
	Merge(state []byte)
	// News takes what another node spread. What was news here is passed on, so
	// that it reaches more nodes than its first sender can tell.
	News(body []byte) (subject string, passOn bool)
}

// Config says who takes part.
type Config struct {
	Node    string
	Listen  []netip.AddrPort       // where to listen, for datagrams and streams; others know the first
	Key     []byte                 // 16, 24 or 32 bytes, the same on every node
	Allowed func(node string) bool // who is a member by the cluster's definition
	Timing  Timing
	Log     *slog.Logger
	// Routes returns all ways to the node that listens at an address; nil, or none of
	// them, is the one from the first address to listen on.
	Routes func(to netip.AddrPort) []Route

	transport memberlist.Transport // in tests, takes the network's place
}

// Timing decides how soon a dead node is missed.
type Timing struct {
	Probe     time.Duration // one node is probed in each
	Timeout   time.Duration // how long an answer may take
	Suspicion int           // how often a silent node's death is doubted
	Gossip    time.Duration // news leaves in each
	Exchange  time.Duration // full states are exchanged in each
}

// LAN misses a dead node after a second or two. Shorter times would be felt as load
// on nodes that do nothing.
func LAN() Timing {
	return Timing{300 * time.Millisecond, 150 * time.Millisecond, 3, 100 * time.Millisecond, 10 * time.Second}
}

// WAN allows for round trips of a few hundred milliseconds.
func WAN() Timing {
	return Timing{2 * time.Second, time.Second, 4, 200 * time.Millisecond, 30 * time.Second}
}

// Gossip is a node's part in the protocol.
type Gossip struct {
	list    *memberlist.Memberlist
	queue   *memberlist.TransmitLimitedQueue
	carrier Carrier
	config  Config
	changed chan struct{}
	wire    *wire // nil in tests that have none
}

// Start listens and takes part, alone until Join finds others. Whoever starts
// it calls Stop.
func Start(config Config, carrier Carrier) (*Gossip, error) {
	g := &Gossip{carrier: carrier, config: config, changed: make(chan struct{}, 1)}
	g.queue = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: 4}
	c := memberlist.DefaultLANConfig()
	c.Name = config.Node
	if len(config.Listen) > 0 {
		c.BindAddr, c.BindPort = config.Listen[0].Addr().String(), int(config.Listen[0].Port())
		c.AdvertisePort = c.BindPort
	}
	c.SecretKey, c.Transport = config.Key, config.transport
	c.ProbeInterval, c.ProbeTimeout = config.Timing.Probe, config.Timing.Timeout
	c.SuspicionMult = config.Timing.Suspicion
	c.GossipInterval, c.PushPullInterval = config.Timing.Gossip, config.Timing.Exchange
	c.GossipToTheDeadTime = 10 * time.Second
	c.EnableCompression = false         // each packet would cost the tables of a compressor
	c.DeadNodeReclaimTime = time.Second // a node may come back with another address
	c.Delegate, c.Events, c.Alive = carriage{g}, events{g}, gate{g}
	c.Logger = log.New(logWriter{config.Log}, "", 0)
	if c.Transport == nil {
		wire, err := newWire(config.Listen, config.Routes)
		if err != nil {
			return nil, fmt.Errorf("gossip: listen: %w", err)
		}
		c.Transport, g.wire = wire, wire
	}
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: start: %w", err), c.Transport.Shutdown())
	}
	g.list = list
	return g, nil
}

// Relink makes these addresses the ones to listen on, while everything goes on. The
// first of Config.Listen must be among them: it is what others know. The error names
// those that cannot be opened; the others are used.
func (g *Gossip) Relink(listen []netip.AddrPort) error {
	first := g.config.Listen[0]
	i := slices.Index(listen, first)
	if i < 0 {
		return fmt.Errorf("gossip: %s: others know this node by it", first)
	}
	if err := g.wire.relink(append([]netip.AddrPort{first}, slices.Delete(slices.Clone(listen), i, i+1)...)); err != nil {
		return fmt.Errorf("gossip: listen: %w", err)
	}
	return nil
}

// Join looks for other nodes at the given addresses. It succeeds when one
// answered.
func (g *Gossip) Join(addresses ...string) error {
	if len(addresses) == 0 {
		return nil
	}
	if _, err := g.list.Join(addresses); err != nil {
		return fmt.Errorf("gossip: join: %w", err)
	}
	return nil
}

// KeepJoined joins the given addresses again, every interval, while this node
// sees fewer members than there are addresses: after a partition or a cold
// start nobody else would. It returns when ctx ends, after which this node calls nobody
// any more.
func (g *Gossip) KeepJoined(ctx context.Context, interval time.Duration, addresses func() []string) {
	if g.wire != nil {
		defer context.AfterFunc(ctx, g.wire.hangUp)()
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if want := addresses(); len(g.Members()) <= len(want) {
			if err := g.Join(want...); err != nil {
				g.config.Log.Debug("no node answered", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Stop says good-bye, waits at most grace for it to spread, and ends the
// protocol.
func (g *Gossip) Stop(grace time.Duration) error {
	return errors.Join(g.list.Leave(grace), g.list.Shutdown())
}

// Members returns the names of the nodes that are alive, this one included, in order.
// The rest of what the library tells of a node changes under the reader's eyes.
func (g *Gossip) Members() (members []string) {
	for _, n := range g.list.Members() {
		members = append(members, n.Name)
	}
	slices.Sort(members)
	return members
}

// Changed delivers a value after nodes have come or gone; several changes may
// be one value.
func (g *Gossip) Changed() <-chan struct{} { return g.changed }

// Spread sends news to all nodes. News of the same subject that is still under
// way is replaced.
func (g *Gossip) Spread(subject string, body []byte) error {
	if len(body) > MaxNews {
		return fmt.Errorf("gossip: %s: %d bytes: %w", subject, len(body), ErrTooLarge)
	}
	g.queue.QueueBroadcast(news{subject, body})
	return nil
}

// count is the number of nodes that news has to reach; the protocol asks for
// it before it has begun.
func (g *Gossip) count() int {
	if g.list == nil {
		return 1
	}
	return g.list.NumMembers()
}

func (g *Gossip) change() {
	select {
	case g.changed <- struct{}{}:
	default: // one is waiting already
	}
}

// news is one broadcast.
type news struct {
	subject string
	body    []byte
}

func (n news) Name() string    { return n.subject }
func (n news) Message() []byte { return n.body }
func (n news) Finished()       {}
func (n news) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(news)
	return ok && o.subject == n.subject
}

// carriage hands the protocol what it carries.
type carriage struct{ *Gossip }

func (c carriage) NodeMeta(int) []byte                   { return nil }
func (c carriage) GetBroadcasts(over, max int) [][]byte  { return c.queue.GetBroadcasts(over, max) }
func (c carriage) LocalState(bool) []byte                { return c.carrier.State() }
func (c carriage) MergeRemoteState(state []byte, _ bool) { c.carrier.Merge(state) }

// NotifyMsg implements memberlist.Delegate.
func (c carriage) NotifyMsg(body []byte) {
	if subject, passOn := c.carrier.News(body); passOn && len(body) <= MaxNews {
		c.queue.QueueBroadcast(news{subject, slices.Clone(body)})
	}
}

// events turns the protocol's events into one signal.
type events struct{ *Gossip }

func (e events) NotifyJoin(*memberlist.Node)   { e.change() }
func (e events) NotifyLeave(*memberlist.Node)  { e.change() }
func (e events) NotifyUpdate(*memberlist.Node) { e.change() }

// gate keeps nodes out that the cluster does not know.
type gate struct{ *Gossip }

func (g gate) NotifyAlive(n *memberlist.Node) error {
	if n.Name != g.config.Node && !g.config.Allowed(n.Name) {
		return fmt.Errorf("node %s: not a member", n.Name)
	}
	return nil
}

// logWriter turns the library's lines into debug records.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("gossip", "message", strings.TrimSpace(string(line)))
	return len(line), nil
}
