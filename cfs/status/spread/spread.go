// Package spread carries what nodes say about themselves between them.
//
// It owns the messages: a small value or log entry travels as gossip, a large
// one is announced and asked for, and every few seconds two nodes compare what
// they know, so that a newcomer, or a node that missed something, asks for what
// it lacks. It keeps nothing (package status does), orders nothing and never
// blocks the gossip.
package spread

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"time"

	"etcpve/cfs/status"
)

// askTimeout bounds one question to a peer.
const askTimeout = 10 * time.Second

// Gossip tells all nodes something small; an error means that it is too large.
type Gossip interface {
	Spread(subject string, body []byte) error
}

// Ask sends a request to one node and returns its answer.
type Ask func(ctx context.Context, node string, body []byte) ([]byte, error)

// Spreader is a node's part.
type Spreader struct {
	node   string
	store  *status.Store
	log    *status.Log
	ask    Ask
	alive  func(node string) bool
	lacks  chan lack
	logger *slog.Logger
}

// A lack is something that a peer has and this node has not.
type lack struct {
	peer string // whom to ask
	node string // whose values; "" is the cluster log
}

// New returns the part of the named node. Values of nodes that are not alive are not
// taken: who repeats what a dead node once said does not speak for it. Nothing is asked
// before Run.
func New(node string, store *status.Store, log *status.Log, alive func(node string) bool, ask Ask, logger *slog.Logger) *Spreader {
	return &Spreader{node: node, store: store, log: log, alive: alive, ask: ask, lacks: make(chan lack, 256), logger: logger}
}

// Value tells the others a value that this node has just set.
func (s *Spreader) Value(g Gossip, v status.Value) {
	w := writer{b: []byte{aValue}}
	w.value(v)
	subject := subjectOf(v)
	if g.Spread(subject, w.b) == nil {
		return
	}
	w = writer{b: []byte{aNotice}}
	w.text(v.Node)
	s.spread(g, subject, w.b)
}

// subjectOf is what a later value of the same owner replaces.
func subjectOf(v status.Value) string { return v.Node + "\x00" + string([]byte{byte(v.Kind)}) + v.Key }

// subjectOfEntry is unique to an entry.
func subjectOfEntry(e status.LogEntry) string { return fmt.Sprint("log ", e.Node, e.UID, e.Time) }

// Entry tells the others an entry that this node has added to the cluster log.
func (s *Spreader) Entry(g Gossip, e status.LogEntry) {
	w := writer{b: []byte{anEntry}}
	w.entry(e)
	subject := subjectOfEntry(e)
	if g.Spread(subject, w.b) == nil {
		return
	}
	w = writer{b: []byte{aNotice}}
	w.text("")
	s.spread(g, subject, w.b)
}

func (s *Spreader) spread(g Gossip, subject string, body []byte) {
	w := writer{}
	w.text(s.node)
	if err := g.Spread(subject, append(body, w.b...)); err != nil {
		s.logger.Warn("status not spread", "key", subject, "err", err)
	}
}

// News takes what another node spread, and says whether it was news here. What is
// only announced is announced again by whoever has fetched it.
func (s *Spreader) News(body []byte) (subject string, news bool) {
	if len(body) == 0 {
		return "", false
	}
	r := reader{b: body[1:]}
	switch body[0] {
	case aValue:
		if v := r.value(); r.err == nil {
			return subjectOf(v), len(s.take([]status.Value{v})) > 0
		}
	case anEntry:
		if e := r.entry(); r.err == nil {
			return subjectOfEntry(e), len(s.log.Merge([]status.LogEntry{e})) > 0
		}
	case aNotice:
		if l := (lack{node: r.text(), peer: r.text()}); r.err == nil {
			s.want(l)
		}
	}
	return "", false
}

// State returns a digest of what this node knows.
func (s *Spreader) State() []byte {
	w := writer{b: []byte{aDigest}}
	w.text(s.node)
	digests := s.digests()
	w.number(uint64(len(digests)))
	for _, node := range slices.Sorted(maps.Keys(digests)) {
		w.text(node)
		w.number(digests[node])
	}
	return w.b
}

// Merge compares another node's digest with this node's own and asks for what
// differs.
func (s *Spreader) Merge(state []byte) {
	if len(state) == 0 || state[0] != aDigest {
		return
	}
	r := reader{b: state[1:]}
	peer, own := r.text(), s.digests()
	for range r.count() {
		node, digest := r.text(), r.number()
		if r.err != nil {
			return
		}
		if own[node] != digest {
			s.want(lack{peer, node})
		}
	}
}

// digests sums up what is known of each node, and of the log under "". Two nodes
// that know the same have the same sums, in whatever order they learnt it.
func (s *Spreader) digests() map[string]uint64 {
	sums := map[string]uint64{}
	for _, v := range s.store.Snapshot() {
		w := writer{}
		w.number(uint64(v.Kind))
		w.text(v.Key)
		w.number(v.Counter)
		sums[v.Node] ^= hash(w.b)
	}
	for _, e := range s.log.Entries() {
		w := writer{}
		w.text(e.Node)
		w.number(uint64(e.UID))
		w.number(uint64(e.Time))
		sums[""] ^= hash(w.b)
	}
	return sums
}

func hash(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// want notes a lack; when too many are waiting, the next comparison finds it again.
func (s *Spreader) want(l lack) {
	if l.peer == s.node || l.node == s.node {
		return
	}
	select {
	case s.lacks <- l:
	default:
	}
}

// Run asks for what this node lacks until ctx ends, and tells the others that it
// can be had here too.
func (s *Spreader) Run(ctx context.Context, g Gossip) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-s.lacks:
			news, err := s.fetch(ctx, l)
			if err != nil {
				s.logger.Debug("status not fetched", "node", l.peer, "err", err)
			}
			if news {
				w := writer{b: []byte{aNotice}}
				w.text(l.node)
				s.spread(g, "here "+l.node, w.b)
			}
		}
	}
}

func (s *Spreader) fetch(ctx context.Context, l lack) (news bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	w := writer{b: []byte{aRequest}}
	w.text(l.node)
	answer, err := s.ask(ctx, l.peer, w.b)
	if err != nil {
		return false, err
	}
	values, entries, err := decode(answer)
	if err != nil {
		return false, err
	}
	fresh := s.take(values)
	told := s.log.Merge(entries)
	return len(fresh)+len(told) > 0, nil
}

// take keeps what others say of themselves and returns what was news.
func (s *Spreader) take(values []status.Value) (news []status.Value) {
	return s.store.Merge(slices.DeleteFunc(values, func(v status.Value) bool { return v.Node == s.node || !s.alive(v.Node) }))
}

// Came says that a node answers from now on, which is then asked what it has to say.
func (s *Spreader) Came(node string) { s.want(lack{peer: node, node: node}) }

// maxAnswer keeps an answer within what one message may carry.
const maxAnswer = 3 << 20

// Answer replies to another node's request with the values of the node it names,
// newest first as far as they fit, or with the log.
func (s *Spreader) Answer(request []byte) ([]byte, error) {
	if len(request) == 0 || request[0] != aRequest {
		return nil, errMalformed
	}
	r := reader{b: request[1:]}
	node := r.text()
	if r.err != nil {
		return nil, r.err
	}
	var values []status.Value
	var entries []status.LogEntry
	if node == "" {
		entries = s.log.Entries()
	} else {
		values = slices.DeleteFunc(s.store.Snapshot(), func(v status.Value) bool { return v.Node != node })
	}
	return encode(values, entries), nil
}

func encode(values []status.Value, entries []status.LogEntry) []byte {
	slices.SortFunc(values, func(a, b status.Value) int { return cmp.Compare(b.Counter, a.Counter) })
	body, n := writer{}, 0
	for _, v := range values {
		if len(body.b)+len(v.Data)+len(v.Key) > maxAnswer {
			break
		}
		body.value(v)
		n++
	}
	w := writer{b: []byte{anAnswer}}
	w.number(uint64(n))
	w.b = append(w.b, body.b...)
	w.number(uint64(len(entries)))
	for _, e := range entries {
		w.entry(e)
	}
	return w.b
}

func decode(answer []byte) (values []status.Value, entries []status.LogEntry, err error) {
	if len(answer) == 0 || answer[0] != anAnswer {
		return nil, nil, errMalformed
	}
	r := reader{b: answer[1:]}
	for range r.count() {
		values = append(values, r.value())
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	for range r.count() {
		entries = append(entries, r.entry())
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	return values, entries, r.err
}
