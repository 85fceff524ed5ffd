package mount

import (
	"etcpve/cfs/mount/bell"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// ringing is a change that is being rung.
type ringing struct {
	change tree.Change
	names  []local.Place
	ring   bell.Ring
}

// ring repeats a change below the mount.
func (q *queue) ring(g ringing) {
	if g.ring.Op == bell.Modify {
		q.bell.Later(g.ring)
		return
	}
	q.bell.Flush()
	q.ringing.Store(&g)
	q.bell.Send(g.ring)
	q.ringing.Store(nil)
}

// isBell reports whether a request is the bell's. Only the thread tells: the
// kernel names threads, not processes.
func (m *Mount) isBell(in *fuse.InHeader) bool {
	thread := m.queue.bell.Thread()
	return thread != 0 && in.Pid == thread
}

// lookupForBell answers so that the kernel goes on with the bell's call: what is
// to be created does not exist, what is to be removed still does. Otherwise the
// bell is answered as everybody is.
func (m *Mount) lookupForBell(at local.Place, out *fuse.EntryOut) (status fuse.Status, special bool) {
	if g := m.queue.ringing.Load(); g != nil {
		last := g.names[len(g.names)-1]
		switch c := g.change; {
		case c.Kind == tree.Renamed && at == last:
			return m.enterGhost(c.Replaced, out), true
		case c.Kind == tree.Created && at == last:
			return fuse.ENOENT, true
		case at == g.names[0] && (c.Kind == tree.Removed || c.Kind == tree.Renamed):
			return m.enterForBell(tree.Entry{Inode: c.Inode, Parent: at.Parent, Name: at.Name, Dir: c.Dir, Mtime: c.Time}, out), true
		}
	}
	if _, ok := m.cfg.Tree.Child(at.Parent, at.Name); ok {
		return fuse.OK, false
	}
	if e, ok := m.queue.ghostAt(at); ok {
		return m.enterForBell(e, out), true
	}
	return fuse.OK, false
}

// enterGhost answers with an entry that was replaced, if there was one. What it
// was beyond its being a file has no meaning any more.
func (m *Mount) enterGhost(inode uint64, out *fuse.EntryOut) fuse.Status {
	if inode == 0 {
		return fuse.ENOENT
	}
	e, _ := m.queue.ghost(inode)
	e.Inode = inode
	return m.enterForBell(e, out)
}

// enterForBell answers the bell. Nobody may rely on what it asked for.
func (m *Mount) enterForBell(e tree.Entry, out *fuse.EntryOut) fuse.Status {
	if present, ok := m.cfg.Tree.Get(e.Inode); ok {
		e = present
	}
	m.tell(e, out, true)
	return fuse.OK
}

// enterRung answers the bell's creation with the entry that was created.
func (m *Mount) enterRung(out *fuse.EntryOut) fuse.Status {
	g := m.queue.ringing.Load()
	if g == nil {
		return fuse.ENOENT
	}
	c := g.change
	return m.enterForBell(tree.Entry{Inode: c.Inode, Parent: c.Parent, Name: g.names[0].Name, Dir: c.Dir, Mtime: c.Time}, out)
}
