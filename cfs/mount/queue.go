package mount

import (
	"slices"
	"sync"
	"sync/atomic"

	"etcpve/cfs/layout"
	"etcpve/cfs/mount/bell"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/tree"
)

// news is one thing the kernel is to be told.
type news struct {
	change tree.Change
	own    origin.Origin
	name   *local.Place    // instead of a change: forget this name
	told   chan<- struct{} // closed when that is done, if anybody waits for it
	inode  uint64          // instead of a change, if all: forget the attributes
	all    bool
}

// queue tells the kernel of changes, in order. What it says itself is about
// attributes, for which the kernel makes nobody wait. What is about names it has
// the bell do, which waits while a request in the same directory is being
// answered; so nobody waits for the queue.
type queue struct {
	m       *Mount
	mu      sync.Mutex // guards what follows
	waiting []news
	hot     map[local.Place]int        // names that are about to be rung
	gone    map[local.Place]tree.Entry // removed entries whose removal has not been rung
	byInode map[uint64]tree.Entry      // the same, by inode
	stopped bool
	more    chan struct{} // has room for one: something is waiting

	bell    *bell.Ringer
	ringing atomic.Pointer[ringing] // what is being rung
}

func (q *queue) init(m *Mount) {
	q.m, q.bell = m, bell.NewRinger()
	q.hot, q.gone, q.byInode = map[local.Place]int{}, map[local.Place]tree.Entry{}, map[uint64]tree.Entry{}
	q.more = make(chan struct{}, 1)
}

// Applied is told of changes in the order in which they were applied. It does
// not block.
func (m *Mount) Applied(changes []tree.Change) {
	m.events.Add(changes)
	items := make([]news, len(changes))
	for i, c := range changes {
		items[i] = news{change: c, own: m.local.Of(c)}
	}
	m.queue.put(items...)
}

// Reset is told that the quorum came or went: all modes are others.
func (m *Mount) Reset() { m.renew(false) }

// Replaced is told that the tree was replaced as a whole. The kernel forgets what
// it was told of what is there now.
func (m *Mount) Replaced() { m.renew(true) }

func (m *Mount) renew(names bool) {
	var items []news
	var walk func(inode uint64)
	walk = func(inode uint64) {
		items = append(items, news{inode: inode, all: true})
		for _, e := range m.cfg.Tree.List(inode) {
			if names {
				items = append(items, news{name: &local.Place{Parent: inode, Name: e.Name}})
			}
			if e.Dir {
				walk(e.Inode)
			} else {
				items = append(items, news{inode: e.Inode, all: true})
			}
		}
	}
	walk(tree.Root)
	m.queue.put(items...)
}

func (q *queue) put(items ...news) {
	q.mu.Lock()
	for _, n := range items {
		q.mark(n, 1)
	}
	q.waiting = append(q.waiting, items...)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// mark counts the names that a change makes hot, and keeps what it removes for
// the bell. The caller holds the lock.
func (q *queue) mark(n news, by int) {
	if n.name != nil || n.all || n.own != origin.Remote || n.change.Kind == tree.Modified || n.change.Kind == tree.Touched {
		return
	}
	for _, at := range local.Places(n.change) {
		if q.hot[at] += by; q.hot[at] == 0 {
			delete(q.hot, at)
		}
	}
	old := local.Places(n.change)[0]
	c := n.change
	switch {
	case c.Kind != tree.Removed && c.Kind != tree.Renamed:
	case by > 0:
		e := tree.Entry{Inode: c.Inode, Parent: old.Parent, Name: old.Name, Dir: c.Dir, Mtime: c.Time}
		q.gone[old], q.byInode[c.Inode] = e, e
	default:
		if q.gone[old].Inode == c.Inode {
			delete(q.gone, old)
		}
		delete(q.byInode, c.Inode)
	}
}

// isHot reports whether a name is about to be rung, so that the kernel must not
// rely on what it is told of it.
func (q *queue) isHot(at local.Place) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.hot[at] > 0
}

// ghost returns an entry that has been removed and whose removal is still to be rung.
func (q *queue) ghost(inode uint64) (tree.Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.byInode[inode]
	return e, ok
}

func (q *queue) ghostAt(at local.Place) (tree.Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.gone[at]
	return e, ok
}

// forgetName has the kernel ask for a name again.
func (q *queue) forgetName(at local.Place) { q.put(news{name: &at}) }

// forgetPath is forgetName for a path of which little may be left.
func (q *queue) forgetPath(path string) {
	dir, name := layout.Split(path)
	if e, ok := q.m.cfg.Tree.Lookup(dir); ok && name != "" {
		q.forgetName(local.Place{Parent: e.Inode, Name: name})
	}
}

// run tells the kernel what waits, until stop.
func (q *queue) run() {
	defer q.bell.Stop()
	q.bell.Start(q.m.cfg.Bell, q.m.place, q.m.cfg.Log)
	for {
		q.mu.Lock()
		batch, stopped := q.waiting, q.stopped
		q.waiting = nil
		q.mu.Unlock()
		if stopped {
			return
		}
		for _, n := range batch {
			q.tell(n)
			if q.isStopped() {
				return
			}
		}
		q.bell.Flush()
		if len(batch) == 0 {
			<-q.more
		}
	}
}

func (q *queue) isStopped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stopped
}

// stop ends run, even while the bell is waited for. It does not wait for that.
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.bell.Kill()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) tell(n news) {
	switch {
	case n.name != nil:
		if dir, ok := q.m.cfg.Tree.Path(n.name.Parent); ok && q.isKnown(*n.name) {
			q.bell.Later(bell.Ring{Op: bell.Look, Path: layout.Join(dir, n.name.Name)})
		}
		if n.told != nil {
			q.bell.Flush()
			close(n.told)
		}
	case n.all:
		q.m.server.InodeNotify(nodeID(n.inode), -1, 0)
	default:
		q.tellChange(n.change, n.own)
		q.mu.Lock()
		q.mark(n, -1)
		q.mu.Unlock()
	}
}

// isKnown reports whether the kernel may know of a name, be it that it is not there.
func (q *queue) isKnown(at local.Place) bool {
	return at.Parent == tree.Root || q.m.known.Has(at.Parent)
}

// tellChange takes back what the kernel knew of attributes and rings the bell.
func (q *queue) tellChange(c tree.Change, own origin.Origin) {
	names := local.Places(c)
	structural := c.Kind != tree.Modified && c.Kind != tree.Touched
	if own == origin.Remote && structural {
		q.bell.Flush()
	}
	q.m.server.InodeNotify(nodeID(c.Inode), -1, 0)
	if structural {
		for _, at := range names {
			q.m.server.InodeNotify(nodeID(at.Parent), -1, 0)
		}
	}
	if c.Kind == tree.Removed && c.Dir {
		q.m.locals.DropDir(c.Inode)
	}
	if own == origin.Collected {
		c.Kind = tree.Modified
	}
	if own != origin.Own && slices.ContainsFunc(names, q.isKnown) {
		q.ring(ringing{change: c, names: names, ring: bell.Of(c)})
	}
}
