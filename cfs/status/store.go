// Package status holds what nodes say about themselves and need not be
// ordered: load, guest states, samples, the cluster log and the documents
// agents publish about files.
//
// It owns who may say what for how long: a value belongs to the node that set
// it, the highest counter wins, and it is forgotten after its time-out or with
// its node. It is a pure store: it has no network, no disk and no clock of its
// own; whoever carries values between nodes takes them from Snapshot and gives
// them to Merge.
package status

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxValue is the size limit of one value, in bytes.
const MaxValue = 32 << 10

// maxValues bounds how many values one node may hold, so that a node that
// misbehaves cannot fill the memory of all others.
const maxValues = 16 << 10

// Kind says what a value is and by which rules it is shown.
type Kind uint8

// The kinds of value.
const (
	KV       Kind = iota + 1 // a node's key, listed with its counter in .version
	RRD                      // samples, shown as "key:data" lines in .rrd
	Document                 // what an agent says of the file whose path is the key
)

// Lifetime of values that nobody renews. A document lasts as long as its node
// answers; the time-out is for nodes that vanish unnoticed.
const (
	RRDLifetime      = 5 * time.Minute
	KVLifetime       = 24 * time.Hour
	DocumentLifetime = 24 * time.Hour
)

// A Value is what one node says under one key.
type Value struct {
	Node    string
	Kind    Kind
	Key     string
	Data    []byte // nil: taken back
	Counter uint64 // rises with each change of this node's value
	Time    int64  // Unix seconds, the owner's clock
	Expires int64  // Unix seconds; after it the value is forgotten
}

func (v Value) id() id { return id{v.Node, v.Kind, v.Key} }

type id struct {
	node string
	kind Kind
	key  string
}

// Refusals of Set.
var (
	ErrTooBig = errors.New("value is too big")
	ErrFull   = errors.New("too many values")
)

// Store holds the values of all nodes. Its methods are safe for concurrent use.
type Store struct {
	node string
	now  func() time.Time
	tell func(Value)

	mu      sync.Mutex // guards what follows
	values  map[id]Value
	counter uint64 // the highest ever given out here
}

// New returns an empty store of the given node.
func New(node string, now func() time.Time) *Store {
	return &Store{node: node, now: now, values: map[id]Value{}}
}

// OnSet has do told every value that this node sets from then on, so that it
// reaches the others. It comes before any Set.
func (s *Store) OnSet(do func(Value)) { s.tell = do }

// Set says something in the name of this node and returns what is to be told
// to the others.
func (s *Store) Set(kind Kind, key string, data []byte) (Value, error) {
	v, err := s.set(kind, key, data)
	if err == nil && s.tell != nil {
		s.tell(v)
	}
	return v, err
}

func (s *Store) set(kind Kind, key string, data []byte) (Value, error) {
	if len(data) > MaxValue {
		return Value{}, fmt.Errorf("status: %s: %w", key, ErrTooBig)
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := Value{Node: s.node, Kind: kind, Key: key, Data: slices.Clone(data), Time: now.Unix(), Expires: now.Add(lifetime(kind)).Unix()}
	if data == nil {
		v.Data = nil
	} else if v.Data == nil {
		v.Data = []byte{}
	}
	if _, known := s.values[v.id()]; !known && s.count(s.node) >= maxValues {
		return Value{}, fmt.Errorf("status: %s: %w", key, ErrFull)
	}
	// A restarted node must not fall behind what the others still remember of
	// it, so the clock is the floor of its counters.
	s.counter = max(s.counter+1, s.values[v.id()].Counter+1, uint64(now.UnixMilli()))
	v.Counter = s.counter
	s.values[v.id()] = v
	return v, nil
}

// Remove takes back what this node said under key.
func (s *Store) Remove(kind Kind, key string) (Value, error) { return s.Set(kind, key, nil) }

func lifetime(kind Kind) time.Duration {
	switch kind {
	case RRD:
		return RRDLifetime
	case Document:
		return DocumentLifetime
	}
	return KVLifetime
}

func (s *Store) count(node string) (n int) {
	for id := range s.values {
		if id.node == node {
			n++
		}
	}
	return n
}

// Merge takes over what other nodes said and returns the values that were news.
func (s *Store) Merge(values []Value) (news []Value) {
	now := s.now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		old, known := s.values[v.id()]
		full := !known && s.count(v.Node) >= maxValues
		if v.Counter <= old.Counter || v.Expires < now || len(v.Data) > MaxValue || full {
			continue
		}
		s.values[v.id()] = v
		news = append(news, v)
	}
	return news
}

// Snapshot returns every value, taken-back ones included, in a stable order.
func (s *Store) Snapshot() []Value {
	return s.collect(func(Value) bool { return true })
}

// DropNode forgets everything a node said.
func (s *Store) DropNode(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.values {
		if id.node == node {
			delete(s.values, id)
		}
	}
}

// List returns the live values of one kind, ordered by key and node.
func (s *Store) List(kind Kind) []Value {
	return s.collect(func(v Value) bool { return v.Kind == kind && v.Data != nil })
}

// Latest returns the newest live value under key of any node.
func (s *Store) Latest(kind Kind, key string) (Value, bool) {
	list := s.collect(func(v Value) bool { return v.Kind == kind && v.Key == key && v.Data != nil })
	if len(list) == 0 {
		return Value{}, false
	}
	return slices.MaxFunc(list, func(a, b Value) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Counter, b.Counter)) }), true
}

// collect drops what has expired and returns the values that wanted accepts.
func (s *Store) collect(wanted func(Value) bool) []Value {
	now := s.now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Value
	for id, v := range s.values {
		if v.Expires < now {
			delete(s.values, id)
		} else if wanted(v) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Key, b.Key), strings.Compare(a.Node, b.Node))
	})
	return list
}
