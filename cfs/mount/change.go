package mount

import (
	"bytes"
	"errors"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/content"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// target resolves a name in a directory for a change of it. Virtual names of
// the root are nobody's to change.
func (m *Mount) target(dir uint64, name string) (at local.Place, path string, err error) {
	if dir >= virtualIDs || dir == fuse.FUSE_ROOT_ID && m.views.Has(name) {
		return at, "", errVirtual
	}
	parent, above, ok := m.dir(dir)
	if !ok {
		return at, "", tree.ErrNotExist
	}
	return local.Place{Parent: parent.Inode, Name: name}, layout.Join(above, name), nil
}

// Mkdir makes a directory; of two who try, one wins.
func (m *Mount) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if m.isBell(&in.InHeader) {
		return m.enterRung(out)
	}
	at, path, err := m.target(in.NodeId, name)
	if err != nil {
		return m.statusOf(err)
	}
	m.vacate(at)
	r, err := m.propose(cancel, m.command(&in.InHeader, command.Mkdir, path), origin.Own)
	if err != nil {
		return m.statusOf(err)
	}
	return m.enterNew(r.Inode, out)
}

// Mknod makes an empty file; other kinds of node do not exist here.
func (m *Mount) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if m.isBell(&in.InHeader) {
		return m.enterRung(out)
	}
	if in.Mode&unix.S_IFMT != unix.S_IFREG {
		return fuse.ENOSYS
	}
	at, path, err := m.target(in.NodeId, name)
	if err != nil {
		return m.statusOf(err)
	}
	m.vacate(at)
	c := m.command(&in.InHeader, command.Write, path)
	c.Exclusive = true
	r, err := m.propose(cancel, c, origin.Own)
	if err != nil {
		return m.statusOf(err)
	}
	return m.enterNew(r.Inode, out)
}

func (m *Mount) enterNew(inode uint64, out *fuse.EntryOut) fuse.Status {
	e, ok := m.cfg.Tree.Get(inode)
	if !ok { // gone again already
		return m.statusOf(tree.ErrNotExist)
	}
	m.enter(e, out)
	return fuse.OK
}

// Unlink removes a file.
func (m *Mount) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if m.isBell(in) {
		return fuse.OK
	}
	if in.NodeId >= virtualIDs {
		return m.statusOf(m.removeVirtual(in.NodeId, name))
	}
	at, path, err := m.target(in.NodeId, name)
	if err != nil {
		return m.statusOf(err)
	}
	if m.locals.Unlink(at) {
		return fuse.OK
	}
	_, err = m.propose(cancel, m.command(in, command.Remove, path), origin.Own)
	return m.statusOf(err)
}

func (m *Mount) removeVirtual(dir uint64, name string) error {
	above, ok := m.names.Name(dir)
	if !ok {
		return tree.ErrNotExist
	}
	return m.views.Remove(layout.Join(above, name))
}

// Rmdir removes an empty directory.
func (m *Mount) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if m.isBell(in) {
		return fuse.OK
	}
	at, path, err := m.target(in.NodeId, name)
	if err != nil {
		return m.statusOf(err)
	}
	if e, ok := m.cfg.Tree.Child(at.Parent, name); ok {
		if temporaries, _ := m.locals.List(e.Inode); len(temporaries) > 0 {
			return m.statusOf(tree.ErrNotEmpty)
		}
		m.vacate(at, e.Inode)
	}
	_, err = m.propose(cancel, m.command(in, command.Rmdir, path), origin.Own)
	return m.statusOf(err)
}

// Rename moves a file or an empty directory. A temporary that takes a real name
// is a save; a file that takes a temporary name departs.
func (m *Mount) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if m.isBell(&in.InHeader) {
		return fuse.OK
	}
	if in.Flags&^unix.RENAME_NOREPLACE != 0 {
		return fuse.EINVAL
	}
	if in.NodeId >= virtualIDs && in.Newdir >= virtualIDs {
		return m.statusOf(m.renameVirtual(in, oldName, newName))
	}
	from, oldPath, err := m.target(in.NodeId, oldName)
	if err != nil {
		return m.statusOf(err)
	}
	to, newPath, err := m.target(in.Newdir, newName)
	if err != nil {
		return m.statusOf(err)
	}
	exclusive := in.Flags&unix.RENAME_NOREPLACE != 0
	return m.statusOf(m.rename(cancel, &in.InHeader, move{from, to, oldPath, newPath, exclusive}))
}

// move is a rename: what, where to, and whether that may exist.
type move struct {
	from, to         local.Place
	oldPath, newPath string
	exclusive        bool
}

func (m *Mount) rename(cancel <-chan struct{}, caller *fuse.InHeader, mv move) error {
	toTemporary := layout.IsTemporary(mv.to.Name)
	if mv.exclusive && m.locals.Has(mv.to) {
		return tree.ErrExist
	}
	if f, ok := m.locals.Lookup(mv.from); ok {
		defer m.locals.Forget(f.ID, 1)
		if toTemporary {
			m.locals.Rename(mv.from, mv.to)
			return nil
		}
		return m.install(cancel, caller, f, mv)
	}
	e, ok := m.cfg.Tree.Child(mv.from.Parent, mv.from.Name)
	if ok && !e.Dir && toTemporary {
		return m.depart(caller, e, mv)
	}
	if e.Dir && !layout.IsBelowLocks(mv.oldPath) { // a lock stays, whatever is in it
		if err := m.clear(mv, e.Inode); err != nil {
			return err
		}
	} else if mv.exclusive {
		m.vacate(mv.to)
	}
	if err := m.moved(cancel, caller, mv); err != nil {
		return err
	}
	m.locals.Arrive(mv.to)
	return nil
}

// moved proposes the rename of what all nodes have, as it was when it was judged.
func (m *Mount) moved(cancel <-chan struct{}, caller *fuse.InHeader, mv move) error {
	for {
		c := m.command(caller, command.Rename, mv.oldPath)
		c.To, c.Exclusive = mv.newPath, mv.exclusive
		if e, ok := m.cfg.Tree.Child(mv.from.Parent, mv.from.Name); ok && !e.Dir {
			if err := m.mayBecome(e.Data, mv, caller.Uid); err != nil {
				return err
			}
			c.Expect = e.Version
		}
		if _, err := m.propose(cancel, c, origin.Own); !errors.Is(err, tree.ErrConflict) {
			return err
		}
	}
}

// clear prepares the rename of a directory: neither it nor the one that it
// replaces may hold anything that only this node has.
func (m *Mount) clear(mv move, inode uint64) error {
	dirs := []uint64{inode}
	if old, ok := m.cfg.Tree.Child(mv.to.Parent, mv.to.Name); ok && old.Dir {
		dirs = append(dirs, old.Inode)
	}
	for _, d := range dirs {
		if temporaries, _ := m.locals.List(d); len(temporaries) > 0 {
			return tree.ErrNotEmpty
		}
	}
	m.vacate(mv.to, dirs...)
	return nil
}

// install saves a temporary under its real name: one command for the content
// and the name.
func (m *Mount) install(cancel <-chan struct{}, caller *fuse.InHeader, f *local.File, mv move) error {
	data, mtime := m.locals.Snapshot(f)
	old, exists := m.cfg.Tree.Child(mv.to.Parent, mv.to.Name)
	departed := m.locals.IsDeparted(mv.to)
	if departed && exists && bytes.Equal(old.Data, data) { // it was only away
		m.locals.Arrive(mv.to)
		m.locals.Become(f, old.Inode)
		return nil
	}
	if err := m.judge().Save(mv.newPath, data, caller.Uid); err != nil {
		return err
	}
	c := m.command(caller, command.Write, mv.newPath)
	c.Data, c.Time, c.Replace, c.Exclusive = data, mtime, true, mv.exclusive && !departed
	r, err := m.propose(cancel, c, origin.Own)
	if err != nil {
		return err
	}
	m.locals.Arrive(mv.to)
	m.locals.Become(f, r.Inode)
	return nil
}

func (m *Mount) renameVirtual(in *fuse.RenameIn, oldName, newName string) error {
	fromDir, ok1 := m.names.Name(in.NodeId)
	toDir, ok2 := m.names.Name(in.Newdir)
	if !ok1 || !ok2 {
		return tree.ErrNotExist
	}
	return m.views.Rename(layout.Join(fromDir, oldName), layout.Join(toDir, newName))
}

// SetAttr changes size and times. Owner and mode follow from the path; setting
// them to what they are is no error.
func (m *Mount) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if m.isBell(&in.InHeader) {
		return m.attributes(in.NodeId, out)
	}
	n, ok := m.resolve(in.NodeId)
	if !ok {
		return m.statusOf(tree.ErrNotExist)
	}
	if status := m.attributes(in.NodeId, out); status != fuse.OK {
		return status
	}
	if err := m.mayOwn(in, n); err != nil {
		return m.statusOf(err)
	}
	for _, set := range []func(<-chan struct{}, *fuse.SetAttrIn, node) error{m.setSize, m.setTime} {
		if err := set(cancel, in, n); err != nil {
			return m.statusOf(err)
		}
	}
	if status := m.attributes(in.NodeId, out); status == fuse.OK {
		if h, ok := m.handleOf(in); ok {
			h.fillAttr(m, in.NodeId, out)
		}
	} // else: the change has removed it, as the release of a lock does
	return fuse.OK
}

// mayOwn checks a change of owner and mode.
func (m *Mount) mayOwn(in *fuse.SetAttrIn, n node) error {
	path := n.name
	switch {
	case n.isTree():
		path, _ = m.cfg.Tree.Path(n.entry.Inode)
	case n.local != nil:
		_, _, at := m.locals.Stat(n.local)
		dir, _ := m.cfg.Tree.Path(at.Parent)
		path = layout.Join(dir, at.Name)
	}
	if want, ok := in.GetMode(); ok && want&0o7777 != layout.Chmod(path) {
		return errOwner
	}
	if uid, ok := in.GetUID(); ok && uid != 0 {
		return errOwner
	}
	if gid, ok := in.GetGID(); ok && gid != m.cfg.GID {
		return errOwner
	}
	return nil
}

func (m *Mount) handleOf(in *fuse.SetAttrIn) (*handle, bool) {
	fh, ok := in.GetFh()
	if !ok {
		return nil, false
	}
	return m.handles.get(fh)
}

func (m *Mount) setSize(cancel <-chan struct{}, in *fuse.SetAttrIn, n node) error {
	size, ok := in.GetSize()
	if !ok {
		return nil
	}
	if h, ok := m.handleOf(in); ok && !h.isTemporary() {
		return m.resizeHandle(h, size)
	}
	switch {
	case n.name != "":
		return m.resizeVirtual(n.name)
	case n.local != nil:
		return m.locals.Edit(n.local, m.cfg.Now().Unix(), func(old []byte) ([]byte, error) { return content.Resize(old, size) })
	case n.entry.Dir:
		return tree.ErrIsDir
	}
	data, err := content.Resize(n.entry.Data, size)
	if err != nil {
		return err
	}
	path, ok := m.cfg.Tree.Path(n.entry.Inode)
	if !ok {
		return tree.ErrNotExist
	}
	if err := m.judge().Save(path, data, in.InHeader.Uid); err != nil {
		return err
	}
	c := m.command(&in.InHeader, command.Write, path)
	c.Data = data
	_, err = m.propose(cancel, c, origin.Collected)
	return err
}

func (m *Mount) resizeHandle(h *handle, size uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.adopt(h)
	if h.name != "" {
		return m.resizeVirtual(h.name)
	}
	data, err := content.Resize(h.data, size)
	if err != nil {
		h.failed = err
		return err
	}
	h.data, h.shared, h.added = data, false, nil
	h.saved = max(h.saved, truncated)
	return nil
}

func (m *Mount) resizeVirtual(name string) error {
	if !m.views.Takes(name) {
		return errReadOnly
	}
	return nil
}

func (m *Mount) setTime(cancel <-chan struct{}, in *fuse.SetAttrIn, n node) error {
	mtime, ok := in.GetMTime()
	if !ok {
		return nil
	}
	if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		mtime = m.cfg.Now()
	}
	switch {
	case n.name != "":
		return errVirtual
	case n.local != nil:
		m.locals.SetTime(n.local, mtime.Unix())
		return nil
	}
	path, ok := m.cfg.Tree.Path(n.entry.Inode)
	switch {
	case !ok:
		return nil
	case path == "":
		return tree.ErrAccess
	}
	if n.entry.Dir && layout.IsLock(path) && mtime.Unix() == 0 {
		return m.unlock(cancel, &in.InHeader, path)
	}
	return m.touch(cancel, &in.InHeader, path, mtime)
}

func (m *Mount) touch(cancel <-chan struct{}, caller *fuse.InHeader, path string, mtime time.Time) error {
	c := m.command(caller, command.Touch, path)
	c.Time = mtime.Unix()
	_, err := m.propose(cancel, c, origin.Own)
	return err
}

// unlock asks for the release of a lock; it is granted when nobody has renewed
// the lock for its lifetime.
func (m *Mount) unlock(cancel <-chan struct{}, caller *fuse.InHeader, path string) error {
	version, expired := m.cfg.Locks.Expired(path)
	if !expired {
		return tree.ErrAccess
	}
	c := m.command(caller, command.Unlock, path)
	c.Expect = version
	_, err := m.propose(cancel, c, origin.Remote) // the kernel does not know that a directory went
	return err
}
