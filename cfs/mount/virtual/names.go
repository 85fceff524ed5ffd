package virtual

import "sync"

// Names numbers the virtual names that the kernel has looked up. Its methods are
// safe for concurrent use.
type Names struct {
	mu     sync.Mutex // guards what follows
	next   uint64
	byID   map[uint64]*virtualName
	byName map[string]*virtualName
}

type virtualName struct {
	id, lookups uint64
	name        string
}

// NewNames returns an empty table whose numbers begin with first.
func NewNames(first uint64) *Names {
	return &Names{next: first, byID: map[uint64]*virtualName{}, byName: map[string]*virtualName{}}
}

// ID returns the number of a name and counts one lookup of it.
func (n *Names) ID(name string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.byName[name]
	if !ok {
		v = &virtualName{id: n.next, name: name}
		n.next++
		n.byID[v.id], n.byName[name] = v, v
	}
	v.lookups++
	return v.id
}

// Name returns the name of a number.
func (n *Names) Name(id uint64) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.byID[id]
	if !ok {
		return "", false
	}
	return v.name, true
}

// Forget takes back lookups of a name; the last one frees its number.
func (n *Names) Forget(id, lookups uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.byID[id]
	if !ok {
		return
	}
	if v.lookups -= min(lookups, v.lookups); v.lookups == 0 {
		delete(n.byID, id)
		delete(n.byName, v.name)
	}
}
