package tree

import (
	"strings"
	"sync"
	"time"

	"etcpve/cfs/layout"
)

// Locks notes for how long each cluster-wide lock has stayed unrenewed, by this
// node's own monotonic clock: comparing times of different nodes would let a
// skewed clock break a lock that is held.
type Locks struct {
	tree *Tree
	now  func() time.Duration // monotonic

	mu   sync.Mutex // guards seen
	seen map[string]sighting
}

// sighting is the moment from which a lock is known to have a version.
type sighting struct {
	version uint64
	since   time.Duration
}

// NewLocks starts to watch the locks of t; those that exist count as renewed now.
func NewLocks(t *Tree, now func() time.Duration) *Locks {
	l := &Locks{tree: t, now: now, seen: map[string]sighting{}}
	if dir, ok := t.Lookup(layout.LockDir); ok {
		for _, e := range t.List(dir.Inode) {
			l.note(layout.Join(layout.LockDir, e.Name))
		}
	}
	return l
}

// Note takes notice of changes that were published.
func (l *Locks) Note(changes []Change) {
	for _, c := range changes {
		for _, path := range []string{c.Path, c.From} {
			if strings.HasPrefix(path, layout.LockDir) && layout.IsLock(path) {
				l.note(path)
			}
		}
	}
}

// Expired reports whether the lock at path has stayed unrenewed for its lifetime,
// and the version that Unlock must expect.
func (l *Locks) Expired(path string) (version uint64, expired bool) {
	s, ok := l.note(path)
	return s.version, ok && l.now()-s.since >= layout.LockLifetime
}

// note compares what is known of a lock with the tree.
func (l *Locks) note(path string) (sighting, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.tree.Lookup(path)
	if !ok || !isLock(&e, path) {
		delete(l.seen, path)
		return sighting{}, false
	}
	s, known := l.seen[path]
	if !known || s.version != e.Version {
		s = sighting{e.Version, l.now()}
		l.seen[path] = s
	}
	return s, true
}
