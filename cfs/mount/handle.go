package mount

import (
	"maps"
	"slices"
	"sync"

	"etcpve/cfs/layout"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/review"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A handle is an open file. What is read from it is the content at the time of
// opening; what is written to it collects until the file is closed.
type handle struct {
	uid      uint32
	opener   uint32 // thread that opened it
	writable bool
	appends  bool
	name     string          // a virtual file
	stream   *virtual.Reader // a virtual file that never ends
	file     *local.File     // what it was opened as, if only this node had it

	mu      sync.Mutex // guards what follows
	inode   uint64     // the entry of the tree, if it is or has become one
	data    []byte
	shared  bool   // others hold data too: copy before writing
	version uint64 // of the entry whose content data began with
	time    int64  // modification time that was asked for; 0 = when it is saved
	added   []byte // appended since then
	saved   saved
	failed  error         // a refused write: nothing of this handle may be saved
	lines   review.Lines  // that were written so far
	saving  chan struct{} // closed when the save in progress has ended
}

// saved says what a handle holds that is not committed.
type saved uint8

const (
	clean     saved = iota
	truncated       // emptied or cut, but nothing written yet
	written
)

// handles are the open files.
type handles struct {
	mu      sync.Mutex // guards what follows
	next    uint64
	open    map[uint64]*handle
	writers map[uint64]int // open writable handles by inode
}

func (t *handles) init() {
	t.open, t.writers = map[uint64]*handle{}, map[uint64]int{}
}

func (t *handles) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.open[t.next] = h
	if h.writable && h.isTree() {
		t.writers[h.inode]++
	}
	return t.next
}

func (t *handles) get(fh uint64) (*handle, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.open[fh]
	return h, ok
}

func (t *handles) remove(fh uint64) (*handle, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.open[fh]
	delete(t.open, fh)
	return h, ok
}

// became notes that h, open for writing, now is the entry inode.
func (t *handles) became(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writers[inode]++
}

func (t *handles) done(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writers[inode]--; t.writers[inode] <= 0 {
		delete(t.writers, inode)
	}
}

// isWritten reports whether somebody has the entry open for writing: the kernel
// then believes sizes of its own and must ask each time.
func (t *handles) isWritten(inode uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writers[inode] > 0
}

// others returns the threads that have opened the entry for writing besides h.
func (t *handles) others(inode uint64, h *handle) (openers []uint32) {
	var open []*handle
	t.mu.Lock()
	if t.writers[inode] > 1 {
		open = slices.Collect(maps.Values(t.open))
	}
	t.mu.Unlock()
	for _, o := range open {
		o.mu.Lock()
		if o != h && o.writable && o.inode == inode {
			openers = append(openers, o.opener)
		}
		o.mu.Unlock()
	}
	return openers
}

// isTree reports whether the handle is of an entry of the tree. It is for
// callers that hold the lock, or that know the handle alone.
func (h *handle) isTree() bool { return h.name == "" && (h.file == nil || h.inode != 0) }

// isTemporary reports whether the handle is of a temporary, which all its
// handles share.
func (h *handle) isTemporary() bool {
	return h.file != nil && h.file.Kind == local.Temporary && h.inode == 0
}

// fillAttr answers stat on a handle with what its writer has written so far.
func (h *handle) fillAttr(m *Mount, id uint64, out *fuse.AttrOut) bool {
	h.mu.Lock()
	size, own := len(h.data), h.writable && !h.isTemporary() && h.saved != clean
	h.mu.Unlock()
	if !own || m.attributes(id, out) != fuse.OK {
		return false
	}
	out.Size = uint64(size)
	out.SetTimeout(0)
	return true
}

// Open opens a file that exists.
func (m *Mount) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, ok := m.resolve(in.NodeId)
	if !ok {
		return m.statusOf(tree.ErrNotExist)
	}
	h := &handle{uid: in.Uid, opener: in.Pid, writable: in.Flags&unix.O_ACCMODE != unix.O_RDONLY, appends: in.Flags&unix.O_APPEND != 0}
	var err error
	switch {
	case n.name != "":
		err = m.openVirtual(h, n.name, in.Flags)
	case h.writable && !m.cfg.Proposer.Quorate():
		err = errNoQuorum
	case n.local != nil:
		err = m.openLocal(h, n.local, in.Flags)
	case n.entry.Dir:
		err = tree.ErrIsDir
	default:
		h.openEntry(n.entry, in.Flags)
	}
	if err != nil {
		return m.statusOf(err)
	}
	out.Fh = m.handles.add(h)
	out.OpenFlags = h.openFlags()
	return fuse.OK
}

func (h *handle) openFlags() uint32 {
	flags := uint32(fuse.FOPEN_DIRECT_IO)
	if !h.writable {
		flags |= fuse.FOPEN_NOFLUSH // there will be nothing to save
	}
	if h.stream != nil {
		flags |= fuse.FOPEN_STREAM | fuse.FOPEN_NONSEEKABLE
	}
	return flags
}

func (h *handle) openEntry(e tree.Entry, flags uint32) {
	h.inode, h.version = e.Inode, e.Version
	h.data, h.shared = e.Data, true
	if flags&unix.O_TRUNC != 0 {
		h.data, h.saved = nil, truncated
	}
}

func (m *Mount) openLocal(h *handle, f *local.File, flags uint32) error {
	m.locals.Open(f)
	h.file = f
	if flags&unix.O_TRUNC != 0 {
		return m.locals.Edit(f, m.cfg.Now().Unix(), func([]byte) ([]byte, error) { return nil, nil })
	}
	return nil
}

func (m *Mount) openVirtual(h *handle, name string, flags uint32) error {
	view, path, ok := m.views.Find(name)
	if !ok {
		return tree.ErrNotExist
	}
	h.name = name
	if index, ok := virtual.EventsAfter(name); ok {
		h.stream = m.events.After(index, h.uid)
		return nil
	}
	if name == virtual.EventsName {
		h.stream = m.events.Now(h.uid)
		return nil
	}
	if h.writable && !m.views.Takes(name) && flags&unix.O_TRUNC != 0 {
		return errReadOnly
	}
	if flags&unix.O_TRUNC != 0 {
		h.saved = truncated
		return nil
	}
	content, err := view.Read(path, h.uid)
	h.data, h.shared = content, true
	return err
}

// Create opens a file that the kernel believes not to exist.
func (m *Mount) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if in.NodeId >= virtualIDs {
		return m.createVirtual(in, name, out)
	}
	dir, path, ok := m.dir(in.NodeId)
	if !ok {
		return m.statusOf(tree.ErrNotExist)
	}
	if !m.cfg.Proposer.Quorate() {
		return m.statusOf(errNoQuorum)
	}
	h := &handle{uid: in.Uid, opener: in.Pid, writable: in.Flags&unix.O_ACCMODE != unix.O_RDONLY, appends: in.Flags&unix.O_APPEND != 0}
	at := local.Place{Parent: dir.Inode, Name: name}
	if err := m.create(cancel, h, at, layout.Join(path, name), in); err != nil {
		return m.statusOf(err)
	}
	out.Fh = m.handles.add(h)
	out.OpenFlags = h.openFlags()
	if !h.writable {
		out.OpenFlags &^= fuse.FOPEN_NOFLUSH // its creation is still to be saved
	}
	if h.file != nil {
		m.enterLocal(h.file, &out.EntryOut)
		return fuse.OK
	}
	e, ok := m.cfg.Tree.Get(h.inode)
	if !ok {
		return m.statusOf(tree.ErrNotExist)
	}
	m.enter(e, &out.EntryOut)
	out.SetEntryTimeout(0)
	return fuse.OK
}

// create makes h the handle of a new file: of this node only if its name is a
// temporary one, committed at once if it must not exist yet, and otherwise
// pending until its first content is saved.
func (m *Mount) create(cancel <-chan struct{}, h *handle, at local.Place, path string, in *fuse.CreateIn) error {
	exclusive := in.Flags&unix.O_EXCL != 0
	kind := local.Pending
	if layout.IsTemporary(at.Name) {
		kind = local.Temporary
		if exclusive && m.locals.Has(at) {
			return tree.ErrExist
		}
	} else if e, ok := m.cfg.Tree.Child(at.Parent, at.Name); ok && !m.locals.IsDeparted(at) {
		switch { // somebody was faster
		case exclusive:
			return tree.ErrExist
		case e.Dir:
			return tree.ErrIsDir
		}
		h.openEntry(e, in.Flags)
		return nil
	} else if !ok && exclusive {
		return m.createNow(cancel, h, path, &in.InHeader)
	}
	if m.isTaken(path, layout.Guest{}) {
		return tree.ErrExist
	}
	if vmid, ok := layout.PowerOf(path); ok { // said now, as a shell does not look at what close(2) returns
		if _, ok := m.cfg.Tree.Guest(vmid); !ok {
			return tree.ErrNoGuest
		}
	}
	f, err := m.locals.Create(at, kind, m.cfg.Now().Unix())
	if err != nil {
		return err
	}
	h.file = f
	if kind == local.Pending {
		h.saved = truncated // its existence is to be saved even if nothing is written
	}
	return nil
}
