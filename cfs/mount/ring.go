package mount

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/cfs/mount/bell"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// bellRest is how long a bell that died is left alone before another is started.
const bellRest = time.Second

// maxBatch is how many modifications are rung together.
const maxBatch = 64

// ringing is a change that is being rung.
type ringing struct {
	change tree.Change
	names  []place
	ring   bell.Ring
}

// ringer is the bell as the queue uses it: one goroutine rings, the answers to
// the bell's requests are given by others.
type ringer struct {
	executable string
	mount      bell.Mount
	log        *slog.Logger
	now        atomic.Pointer[ringing] // what is being rung
	thread     atomic.Uint32           // of the bell; 0 = none is running

	mu      sync.Mutex // guards what follows
	bell    *bell.Bell
	started time.Time
	killed  bool

	modified []bell.Ring // modifications to be rung together
}

func (r *ringer) start(executable string, mount bell.Mount, log *slog.Logger) {
	r.executable, r.mount, r.log = executable, mount, log
	r.restart()
}

// restart starts a bell if there is none and it is time.
func (r *ringer) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.executable == "" || r.killed || r.bell != nil || time.Since(r.started) < bellRest {
		return
	}
	r.started = time.Now()
	b, err := bell.Start(r.executable, r.mount)
	if err != nil {
		r.log.Error("inotify will not see remote changes", "err", err)
		return
	}
	r.bell = b
	r.thread.Store(b.Thread())
}

// ring repeats a change below the mount. Modifications may be rung later, but
// never after a later change of another kind.
func (r *ringer) ring(g ringing) {
	if g.ring.Op == bell.Modify {
		r.modify(g.ring)
		return
	}
	r.flush()
	r.now.Store(&g)
	r.send(g.ring)
	r.now.Store(nil)
}

// modify collects a modification, once for each file.
func (r *ringer) modify(ring bell.Ring) {
	for _, m := range r.modified {
		if m == ring {
			return
		}
	}
	r.modified = append(r.modified, ring)
	if len(r.modified) == maxBatch {
		r.flush()
	}
}

// flush rings the modifications that were collected.
func (r *ringer) flush() {
	if len(r.modified) > 0 {
		r.send(r.modified...)
		r.modified = r.modified[:0]
	}
}

// send rings, and once more if the bell had to be started again.
func (r *ringer) send(rings ...bell.Ring) {
	for range 2 {
		r.restart()
		r.mu.Lock()
		b := r.bell
		r.mu.Unlock()
		if b == nil {
			return
		}
		err := b.Ring(rings...)
		if err == nil {
			return
		}
		r.mu.Lock()
		quiet := r.killed
		r.bell = nil
		r.mu.Unlock()
		r.thread.Store(0)
		b.Stop()
		if !quiet {
			r.log.Warn("the bell has to be started again", "err", err)
		}
	}
}

// kill makes a ring in progress fail, for ever.
func (r *ringer) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.bell != nil {
		r.bell.Kill()
	}
}

// stop ends the bell and waits for it.
func (r *ringer) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.bell != nil {
		r.thread.Store(0)
		r.bell.Stop()
		r.bell = nil
	}
}

// isBell reports whether a request is the bell's. Only the thread tells: the
// kernel names threads, not processes.
func (m *Mount) isBell(in *fuse.InHeader) bool {
	thread := m.queue.bell.thread.Load()
	return thread != 0 && in.Pid == thread
}

// lookupForBell answers so that the kernel goes on with the bell's call: what is
// to be created does not exist, what is to be removed still does.
func (m *Mount) lookupForBell(at place, out *fuse.EntryOut) fuse.Status {
	if g := m.queue.bell.now.Load(); g != nil {
		last := g.names[len(g.names)-1]
		switch c := g.change; {
		case c.Kind == tree.Renamed && at == last:
			return m.enterGhost(c.Replaced, out)
		case c.Kind == tree.Created && at == last:
			return fuse.ENOENT
		case at == g.names[0] && (c.Kind == tree.Removed || c.Kind == tree.Renamed):
			return m.enterGhostEntry(tree.Entry{Inode: c.Inode, Parent: at.parent, Name: at.name, Dir: c.Dir, Mtime: c.Time}, out)
		}
	}
	if e, ok := m.cfg.Tree.Child(at.parent, at.name); ok {
		m.enter(e, out)
		return fuse.OK
	}
	if e, ok := m.queue.ghostAt(at); ok {
		return m.enterGhostEntry(e, out)
	}
	return fuse.ENOENT
}

// enterGhost answers with an entry that was replaced, if there was one. What it
// was beyond its being a file has no meaning any more.
func (m *Mount) enterGhost(inode uint64, out *fuse.EntryOut) fuse.Status {
	if inode == 0 {
		return fuse.ENOENT
	}
	e, _ := m.queue.ghost(inode)
	e.Inode = inode
	return m.enterGhostEntry(e, out)
}

func (m *Mount) enterGhostEntry(e tree.Entry, out *fuse.EntryOut) fuse.Status {
	if present, ok := m.cfg.Tree.Get(e.Inode); ok {
		e = present
	}
	m.enter(e, out)
	out.SetEntryTimeout(0)
	out.SetAttrTimeout(0)
	return fuse.OK
}

// enterRung answers the bell's creation with the entry that was created.
func (m *Mount) enterRung(out *fuse.EntryOut) fuse.Status {
	g := m.queue.bell.now.Load()
	if g == nil {
		return fuse.ENOENT
	}
	c := g.change
	return m.enterGhostEntry(tree.Entry{Inode: c.Inode, Parent: c.Parent, Name: g.names[0].name, Dir: c.Dir, Mtime: c.Time}, out)
}
