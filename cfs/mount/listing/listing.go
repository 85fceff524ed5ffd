// Package listing keeps the directories that are open, and knows which of the
// kernel's own copies of a listing are still true. It never knows what a
// listing shows.
package listing

import "sync"

// maxKept bounds of how many directories it is known what the kernel keeps.
const maxKept = 4096

// A Listing is an open directory: what it held when reading began.
type Listing[E any] struct{ Entries []E }

// Table holds the open directories by number. It is safe for concurrent use; a
// Listing belongs to who reads it.
type Table[E any] struct {
	mu   sync.Mutex // guards what follows
	next uint64
	open map[uint64]*Listing[E]
	kept map[uint64]uint64 // state in which the kernel's listing of a directory began
}

// New returns an empty table.
func New[E any]() *Table[E] {
	return &Table[E]{open: map[uint64]*Listing[E]{}, kept: map[uint64]uint64{}}
}

// Open opens a directory.
func (t *Table[E]) Open() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.open[t.next] = &Listing[E]{}
	return t.next
}

// Get returns an open directory.
func (t *Table[E]) Get(number uint64) (*Listing[E], bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.open[number]
	return l, ok
}

// Close closes a directory.
func (t *Table[E]) Close(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, number)
}

// IsKept reports whether a directory was opened in the same state before, and
// notes that it is opened in this one.
func (t *Table[E]) IsKept(inode, state uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, ok := t.kept[inode]
	if !ok && len(t.kept) >= maxKept {
		clear(t.kept)
	}
	t.kept[inode] = state
	return ok && before == state
}
