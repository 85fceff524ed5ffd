package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"etcpve/cfs/membership"
	"etcpve/cfs/peer"
)

// Times of the second way that committed entries have. Members that hear the
// leader have an entry before relayGrace is over, and ask nobody.
const (
	heraldEvery = 20 * time.Millisecond
	relayGrace  = 100 * time.Millisecond
	relayRetry  = 250 * time.Millisecond
	relayTries  = 40 // then it waits for the next announcement
	relayCall   = 2 * time.Second
)

// What gossip carries for the relay begins with one of these; all else is of
// package spread.
const (
	anIndex byte = 0x40 // news: the log is committed up to an index
	aState  byte = 0x41 // state: the same, then what package spread says
)

// A relay is how a node learns of committed entries that the leader's stream did
// not bring: their index is announced by gossip, and the entries are asked of
// any member that has them.
type relay struct {
	known  atomic.Uint64 // the highest index announced, whether it is here or not
	behind chan struct{} // known has risen
	ahead  chan struct{} // this node has applied something
	tell   chan struct{} // the same, for those that it tells
	told   chan []byte   // what a voter has told this node
}

func newRelay() *relay {
	return &relay{behind: make(chan struct{}, 1), ahead: make(chan struct{}, 1), tell: make(chan struct{}, 1), told: make(chan []byte, 64)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// hear notes an announcement and reports whether it was news.
func (r *relay) hear(index uint64) bool {
	for {
		known := r.known.Load()
		if index <= known {
			return false
		}
		if r.known.CompareAndSwap(known, index) {
			signal(r.behind)
			return true
		}
	}
}

// carrier is what gossip carries between clusters' parts.
type carrier struct{ *Cluster }

// State implements membership.Carrier.
func (c carrier) State() []byte {
	head := binary.AppendUvarint([]byte{aState}, c.order.Status().Applied)
	return append(head, c.spread.State()...)
}

// Merge implements membership.Carrier.
func (c carrier) Merge(state []byte) {
	if len(state) == 0 || state[0] != aState {
		return
	}
	index, n := binary.Uvarint(state[1:])
	if n <= 0 {
		return
	}
	c.relay.hear(index)
	c.spread.Merge(state[1+n:])
}

// News implements membership.Carrier.
func (c carrier) News(body []byte) (subject string, passOn bool) {
	if len(body) == 0 || body[0] != anIndex {
		return c.spread.News(body)
	}
	index, n := binary.Uvarint(body[1:])
	return subjectIndex, n > 0 && c.relay.hear(index)
}

// subjectIndex makes an announcement replace the one before it.
const subjectIndex = "index"

// herald announces, on the leader, what was committed, until ctx ends.
func (c *Cluster) herald(ctx context.Context, gossip *membership.Gossip) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.relay.ahead:
		}
		s := c.order.Status()
		if s.Leader == s.ID {
			c.relay.known.Store(max(c.relay.known.Load(), s.Applied))
			if err := gossip.Spread(subjectIndex, binary.AppendUvarint([]byte{anIndex}, s.Applied)); err != nil {
				c.log.Warn("index not announced", "index", s.Applied, "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(heraldEvery):
		}
	}
}

// catchUp asks other members for entries that were announced and did not come,
// until ctx ends.
func (c *Cluster) catchUp(ctx context.Context, peers *peer.Peers) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.relay.behind:
		}
		wait, useless := relayGrace, map[string]bool{}
		for try := 0; try < relayTries && ctx.Err() == nil; try++ {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			if c.order.Status().Commit >= c.relay.known.Load() || c.fresh.Load() {
				break
			}
			wait = 0
			node := c.teller(useless)
			if node == "" {
				clear(useless)
				wait = relayRetry
				continue
			}
			if err := c.fetch(ctx, peers, node); err != nil {
				c.log.Debug("entries not fetched", "node", node, "err", err)
				useless[node] = true
			}
		}
	}
}

var errNothing = errors.New("no member has told more")

// teller chooses a member to ask by lot. The leader, who would have told by
// itself, comes last.
func (c *Cluster) teller(useless map[string]bool) string {
	_, leader := c.route(c.order.Status().Leader)
	var others []string
	for _, node := range c.Alive() {
		if node != c.config.Node && node != leader && !useless[node] {
			others = append(others, node)
		}
	}
	if len(others) == 0 && leader != c.config.Node && !useless[leader] {
		return leader
	}
	if len(others) == 0 {
		return ""
	}
	return others[rand.IntN(len(others))]
}

// fetch asks a member for the entries after the last that this node knows to be
// committed.
func (c *Cluster) fetch(ctx context.Context, peers *peer.Peers, node string) error {
	ctx, cancel := context.WithTimeout(ctx, relayCall)
	defer cancel()
	after := c.order.Status().Commit
	bundle, err := peers.Call(ctx, node, kindEntries, binary.BigEndian.AppendUint64(nil, after))
	if err != nil {
		return err
	}
	if len(bundle) == 0 {
		return errNothing
	}
	if err := c.order.Feed(ctx, bundle); err != nil {
		return err
	}
	if c.order.Status().Commit <= after {
		return errNothing
	}
	return nil
}

// entries answers another member's fetch.
func (c *Cluster) entries(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) != 8 || c.fresh.Load() {
		return nil, errNothing
	}
	return c.order.Committed(ctx, binary.BigEndian.Uint64(body))
}
