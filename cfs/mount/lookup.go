package mount

import (
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Lookup finds a name in a directory.
func (m *Mount) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId >= virtualIDs {
		return m.lookupVirtual(in.NodeId, name, out)
	}
	if len(name) > layout.MaxName {
		return m.statusOf(errName)
	}
	isBell := m.isBell(in)
	if isBell {
		if status, special := m.lookupForBell(local.Place{Parent: in.NodeId - 1, Name: name}, out); special {
			return status
		}
	}
	if in.NodeId == fuse.FUSE_ROOT_ID && m.views.Has(name) {
		return m.enterVirtual(name, out)
	}
	parent, ok := m.cfg.Tree.Get(in.NodeId - 1)
	if in.NodeId >= localIDs || ok && !parent.Dir {
		return m.statusOf(tree.ErrNotDir)
	}
	at := local.Place{Parent: parent.Inode, Name: name}
	if f, ok := m.locals.Lookup(at); ok {
		m.enterLocal(f, out)
		return fuse.OK
	}
	// Names that this node alone gives and takes, and those the bell is about to
	// use, must be asked for each time. So must all if there is no bell.
	changing := !ok || isBell || !m.queue.bell.IsRunning() || m.locals.IsUnsettled(at) || m.queue.isHot(at) || layout.IsTemporary(name)
	e, ok := m.cfg.Tree.Child(parent.Inode, name)
	if !ok || m.locals.IsDeparted(at) {
		if changing {
			return fuse.ENOENT
		}
		out.SetEntryTimeout(validity) // a name that is not there is remembered too
		return fuse.OK
	}
	if isBell {
		return m.enterForBell(e, out)
	}
	if m.enter(e, out); changing {
		out.SetEntryTimeout(0)
	}
	return fuse.OK
}

// enter answers with an entry of the tree.
func (m *Mount) enter(e tree.Entry, out *fuse.EntryOut) {
	m.tell(e, out, false)
	if m.queue.bell.IsRunning() { // nobody else takes a name back
		out.SetEntryTimeout(validity)
	}
	if !m.handles.isWritten(e.Inode) {
		out.SetAttrTimeout(validity)
	}
}

// tell fills an answer with an entry. If the kernel must ask again before it goes
// into a directory, it does not know it yet.
func (m *Mount) tell(e tree.Entry, out *fuse.EntryOut, mustAsk bool) {
	if e.Dir {
		m.known.Enter(e.Inode, mustAsk)
	}
	out.NodeId = nodeID(e.Inode)
	m.fill(&out.Attr, e)
}

// enterLocal answers with a file of this node. The kernel asks again each time,
// because such a file becomes an entry of the tree without the kernel's doing.
func (m *Mount) enterLocal(f *local.File, out *fuse.EntryOut) {
	out.NodeId = f.ID
	m.fillLocal(&out.Attr, f)
}

func (m *Mount) fillLocal(out *fuse.Attr, f *local.File) {
	size, mtime, at := m.locals.Stat(f)
	dir, _ := m.cfg.Tree.Path(at.Parent)
	m.describe(out, f.ID, layout.Mode(layout.Join(dir, at.Name), false), false, size, mtime)
}

func (m *Mount) lookupVirtual(dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	above, ok := m.names.Name(dir)
	if !ok {
		return fuse.ENOENT
	}
	return m.enterVirtual(layout.Join(above, name), out)
}

// enterVirtual answers with a virtual name. What it holds changes without a
// change of the tree, so nothing of it may be kept, save the links.
func (m *Mount) enterVirtual(name string, out *fuse.EntryOut) fuse.Status {
	info, err := m.views.Stat(name)
	if err != nil {
		return m.statusOf(err)
	}
	out.NodeId = m.names.ID(name)
	m.fillVirtual(&out.Attr, out.NodeId, info)
	if info.Link != "" {
		out.SetEntryTimeout(validity)
		out.SetAttrTimeout(validity)
	}
	return fuse.OK
}

// GetAttr answers stat.
func (m *Mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		if h, ok := m.handles.get(in.Fh()); ok && h.fillAttr(m, in.NodeId, out) {
			return fuse.OK
		}
	}
	return m.attributes(in.NodeId, out)
}

func (m *Mount) attributes(id uint64, out *fuse.AttrOut) fuse.Status {
	n, ok := m.resolve(id)
	switch {
	case !ok:
		return m.statusOf(tree.ErrNotExist)
	case n.name != "":
		info, err := m.views.Stat(n.name)
		if err != nil {
			return m.statusOf(err)
		}
		m.fillVirtual(&out.Attr, id, info)
	case n.local != nil:
		m.fillLocal(&out.Attr, n.local)
	default:
		m.fill(&out.Attr, n.entry)
		if !m.handles.isWritten(n.entry.Inode) {
			out.SetTimeout(validity)
		}
	}
	return fuse.OK
}

// Readlink answers where a link leads.
func (m *Mount) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, ok := m.resolve(in.NodeId)
	if !ok || n.name == "" {
		return nil, fuse.EINVAL
	}
	info, err := m.views.Stat(n.name)
	if err == nil && info.Link == "" {
		err = virtual.ErrInvalid
	}
	return []byte(info.Link), m.statusOf(err)
}

// StatFs tells the limits of the whole tree and what is left of them.
func (m *Mount) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	used, inodes := m.cfg.Tree.Usage()
	blocks := uint64(layout.MaxTotal / layout.BlockSize)
	free := blocks - min(blocks, uint64(used+layout.BlockSize-1)/layout.BlockSize)
	*out = fuse.StatfsOut{
		Blocks: blocks, Bfree: free, Bavail: free,
		Files: layout.MaxInodes, Ffree: layout.MaxInodes - min(layout.MaxInodes, uint64(inodes)),
		Bsize: layout.BlockSize, Frsize: layout.BlockSize, NameLen: statfsNameLen,
	}
	return fuse.OK
}

// statfsNameLen is the name length that pmxcfs reports; longer names work.
const statfsNameLen = 256

// Link refuses: a file has one path, from which everything else follows.
func (m *Mount) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return m.statusOf(errOwner)
}

// OpenDir opens a directory. The kernel may use the listing that it has from
// before if nothing at all has changed since.
func (m *Mount) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, ok := m.resolve(in.NodeId)
	switch {
	case !ok:
		return m.statusOf(tree.ErrNotExist)
	case n.isTree() && !n.entry.Dir || n.local != nil:
		return m.statusOf(tree.ErrNotDir)
	}
	out.Fh = m.listings.Open()
	if n.isTree() {
		out.OpenFlags = fuse.FOPEN_CACHE_DIR
		if m.listings.IsKept(n.entry.Inode, m.state()) {
			out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
		}
	}
	return fuse.OK
}

// state numbers what listings show: it rises with every change of the tree and
// of this node's own names.
func (m *Mount) state() uint64 { return m.cfg.Tree.Version() + m.locals.State() }

// ReadDir continues a listing. One that starts, or starts over, shows the
// present: it may be what the kernel keeps for the next reader.
func (m *Mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	l, ok := m.listings.Get(in.Fh)
	if !ok {
		return fuse.EBADF
	}
	if in.Offset == 0 {
		n, ok := m.resolve(in.NodeId)
		if !ok {
			return m.statusOf(tree.ErrNotExist)
		}
		var err error
		if l.Entries, err = m.list(n); err != nil {
			return m.statusOf(err)
		}
	}
	for i := in.Offset; i < uint64(len(l.Entries)); i++ {
		if !out.AddDirEntry(l.Entries[i]) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir closes a directory.
func (m *Mount) ReleaseDir(in *fuse.ReleaseIn) { m.listings.Close(in.Fh) }

// FsyncDir has nothing to do: every change of a directory is committed.
func (m *Mount) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// list returns what a directory holds: its entries in the tree, this node's
// temporaries, and in the root the virtual files.
func (m *Mount) list(n node) ([]fuse.DirEntry, error) {
	if n.name != "" {
		return m.listVirtual(n.name)
	}
	if n.local != nil || !n.entry.Dir {
		return nil, tree.ErrNotDir
	}
	temporaries, hidden := m.locals.List(n.entry.Inode)
	children := m.cfg.Tree.List(n.entry.Inode)
	entries := make([]fuse.DirEntry, 0, len(children)+len(temporaries)+2+len(m.views.Listed))
	entries = append(entries, fuse.DirEntry{Name: ".", Mode: fuse.S_IFDIR, Ino: nodeID(n.entry.Inode)},
		fuse.DirEntry{Name: "..", Mode: fuse.S_IFDIR, Ino: nodeID(n.entry.Parent)})
	if n.entry.Inode == tree.Root {
		entries = appendItems(entries, m.views.Listed)
	}
	for _, f := range temporaries {
		entries = append(entries, fuse.DirEntry{Name: f.Name, Mode: fuse.S_IFREG, Ino: f.ID})
	}
	for _, e := range children {
		mode := uint32(fuse.S_IFREG)
		if e.Dir {
			mode = fuse.S_IFDIR
		}
		shadowed := n.entry.Inode == tree.Root && m.views.Has(e.Name)
		if !hidden[e.Name] && !shadowed {
			entries = append(entries, fuse.DirEntry{Name: e.Name, Mode: mode, Ino: nodeID(e.Inode)})
		}
	}
	return entries, nil
}

func (m *Mount) listVirtual(name string) ([]fuse.DirEntry, error) {
	view, path, ok := m.views.Find(name)
	lister, isDir := view.(virtual.Lister)
	if !ok || !isDir {
		return nil, tree.ErrNotDir
	}
	items, err := lister.List(path)
	if err != nil {
		return nil, err
	}
	dots := []fuse.DirEntry{{Name: ".", Mode: fuse.S_IFDIR}, {Name: "..", Mode: fuse.S_IFDIR}}
	return appendItems(dots, items), nil
}

func appendItems(entries []fuse.DirEntry, items []virtual.Item) []fuse.DirEntry {
	for _, item := range items {
		mode := uint32(fuse.S_IFREG)
		switch {
		case item.Dir:
			mode = fuse.S_IFDIR
		case item.Link:
			mode = fuse.S_IFLNK
		}
		entries = append(entries, fuse.DirEntry{Name: item.Name, Mode: mode})
	}
	return entries
}
