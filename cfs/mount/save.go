package mount

import (
	"bytes"
	"errors"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/content"
	"etcpve/cfs/mount/holder"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/mount/review"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// createNow commits an empty file that must not exist yet.
func (m *Mount) createNow(cancel <-chan struct{}, h *handle, path string, caller *fuse.InHeader) error {
	c := m.command(caller, command.Write, path)
	c.Exclusive = true
	r, err := m.propose(cancel, c, origin.Own)
	if err != nil {
		return err
	}
	h.inode, h.shared = r.Inode, true
	return nil
}

func (m *Mount) createVirtual(in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	above, ok := m.names.Name(in.NodeId)
	if !ok {
		return m.statusOf(tree.ErrNotExist)
	}
	full := layout.Join(above, name)
	if err := m.views.Create(full); err != nil {
		return m.statusOf(err)
	}
	h := &handle{uid: in.Uid, writable: true, name: full}
	out.Fh, out.OpenFlags = m.handles.add(h), h.openFlags()
	return m.enterVirtual(full, &out.EntryOut)
}

// Read returns part of what the file held when it was opened.
func (m *Mount) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h, ok := m.handles.get(in.Fh)
	if !ok {
		return nil, fuse.EBADF
	}
	if h.stream != nil {
		// Waiting is right even with O_NONBLOCK: the kernel cannot be told when
		// there is something to read, and many runtimes set the flag by themselves.
		n, ok := h.stream.Read(cancel, buf[:min(len(buf), int(in.Size))])
		if !ok {
			return nil, fuse.EINTR
		}
		return fuse.ReadResultData(buf[:n]), fuse.OK
	}
	h.mu.Lock()
	m.adopt(h)
	data := h.data
	if h.isTemporary() {
		data, _ = m.locals.Snapshot(h.file)
	} else if h.writable {
		h.shared = true // the answer is sent after the lock is gone
	}
	h.mu.Unlock()
	if in.Offset >= uint64(len(data)) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	end := min(uint64(len(data)), in.Offset+uint64(in.Size))
	return fuse.ReadResultData(data[in.Offset:end]), fuse.OK
}

// adopt makes the handle one of the tree if its local file has become an entry.
// The caller holds the handle's lock.
func (m *Mount) adopt(h *handle) {
	if h.file == nil || h.inode != 0 {
		return
	}
	_, inode, ok := m.locals.Get(h.file.ID)
	if !ok || inode == 0 {
		return
	}
	h.inode = inode
	if h.writable {
		m.handles.became(inode)
	}
	if e, ok := m.cfg.Tree.Get(inode); ok && h.saved == clean {
		h.data, h.shared, h.version = e.Data, true, e.Version
	}
}

// Write collects what is written.
func (m *Mount) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h, ok := m.handles.get(in.Fh)
	if !ok {
		return 0, fuse.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.adopt(h)
	if err := m.write(h, in.Offset, data); err != nil {
		if h.isTree() || h.file != nil && !h.isTemporary() {
			h.failed = err
		}
		return 0, m.statusOf(err)
	}
	return uint32(len(data)), fuse.OK
}

func (m *Mount) write(h *handle, off uint64, data []byte) error {
	if h.name != "" {
		return m.writeVirtual(h, off, data)
	}
	if h.isTemporary() {
		err := m.locals.Edit(h.file, m.cfg.Now().Unix(), func(old []byte) ([]byte, error) {
			if h.appends {
				off = uint64(len(old))
			}
			return content.Splice(old, off, data)
		})
		if !errors.Is(err, local.ErrBecame) {
			return err
		}
		m.adopt(h)
	}
	// A save that was refused at one line stays refused as a whole.
	if h.failed != nil {
		return h.failed
	}
	if h.appends { // the kernel's offset is from before other writers
		off = uint64(len(h.data))
	}
	if h.shared {
		h.data, h.shared = bytes.Clone(h.data), false
	}
	whole, err := content.Splice(h.data, off, data)
	if err != nil {
		return err
	}
	if err := m.hasRoom(h, len(whole)); err != nil {
		return err
	}
	h.data, h.saved = whole, written
	if h.appends {
		h.added = append(h.added, data...)
	}
	return m.checkLines(h, off, data)
}

func (m *Mount) writeVirtual(h *handle, off uint64, data []byte) error {
	if !m.views.Takes(h.name) {
		return errReadOnly
	}
	if h.appends {
		off = uint64(len(h.data))
	}
	whole, err := content.Splice(bytes.Clone(h.data), off, data)
	if err != nil {
		return err
	}
	h.data, h.saved = whole, written
	return nil
}

// hasRoom refuses early what the tree would refuse at the save.
func (m *Mount) hasRoom(h *handle, size int) error {
	used, _ := m.cfg.Tree.Usage()
	had := 0
	if e, ok := m.cfg.Tree.Get(h.inode); ok && h.isTree() {
		had = len(e.Data)
	}
	if more := size - had; more > 0 && used+more > layout.MaxTotal {
		return tree.ErrNoSpace
	}
	return nil
}

// checkLines judges the lines that a write completes.
func (m *Mount) checkLines(h *handle, off uint64, part []byte) error {
	path, ok := m.pathOf(h)
	if m.cfg.Check == nil || !ok {
		return nil
	}
	return m.judge().Refuse(path, h.uid, h.lines.Write(m.judge(), path, h.data[:off], off, part))
}

// judge is who decides on saves.
func (m *Mount) judge() review.Judge {
	return review.Judge{Check: m.cfg.Check, Rejected: m.rejected, Log: m.cfg.Log, Now: m.cfg.Now}
}

// mayBecome judges the content of a file that takes another name.
func (m *Mount) mayBecome(content []byte, mv move, uid uint32) error {
	refused := m.judge().Rename(mv.oldPath, mv.newPath, content)
	if moving, _ := layout.GuestOf(mv.oldPath); len(refused) > 0 && m.isTaken(mv.newPath, moving) {
		return tree.ErrExist // as the tree will say
	}
	return m.judge().Refuse(mv.newPath, uid, refused)
}

// isTaken reports whether path is a guest's whose VMID another guest has, but the one
// that moves.
func (m *Mount) isTaken(path string, moving layout.Guest) bool {
	g, ok := layout.GuestOf(path)
	if !ok {
		return false
	}
	other, taken := m.cfg.Tree.Guest(g.VMID)
	return taken && other.Guest != g && other.Guest != moving
}

// pathOf returns where a handle's content belongs now. There is no such place
// when the file has been removed while it was open.
func (m *Mount) pathOf(h *handle) (string, bool) {
	if h.inode != 0 {
		return m.cfg.Tree.Path(h.inode)
	}
	if h.file == nil {
		return "", false
	}
	dir, ok := m.cfg.Tree.Path(m.locals.At(h.file).Parent)
	return layout.Join(dir, m.locals.At(h.file).Name), ok
}

// Flush is called when a descriptor is closed, each copy of it included: in
// every child of the writer, and in shells before the first byte is written.
// What was written is saved when the process that opened the file has closed it,
// and a file that was only emptied when everybody has.
func (m *Mount) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h, ok := m.handles.get(in.Fh)
	if !ok {
		return fuse.EBADF
	}
	h.mu.Lock()
	m.adopt(h)
	state, saving := h.saved, h.saving != nil
	at, inode := m.identity(h), h.inode
	h.mu.Unlock()
	if state == clean && !saving {
		return fuse.OK
	}
	at.Others = m.handles.others(inode, h)
	if state != clean && (at.HeldBy(h.opener) || state == truncated && at.IsHeld()) {
		return fuse.OK
	}
	return m.statusOf(m.save(cancel, h, &in.InHeader))
}

// identity is how other processes know the file of a handle: a file of this node
// that has become an entry of the tree goes by either number. The caller holds
// the handle's lock.
func (m *Mount) identity(h *handle) holder.File {
	f := holder.File{Device: m.place.Device}
	if h.file != nil {
		f.Inodes = append(f.Inodes, h.file.ID)
	}
	if h.inode != 0 {
		f.Inodes = append(f.Inodes, nodeID(h.inode))
	}
	return f
}

// Fsync saves at once; the content is on a majority's disks then.
func (m *Mount) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h, ok := m.handles.get(in.Fh)
	if !ok {
		return fuse.EBADF
	}
	return m.statusOf(m.save(cancel, h, &in.InHeader))
}

// Release is called after the last descriptor is closed. Nobody sees an error
// any more, so Flush has done what it could.
func (m *Mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	h, ok := m.handles.remove(in.Fh)
	if !ok {
		return
	}
	if err := m.save(nil, h, &in.InHeader); err != nil && !errors.Is(err, review.ErrRefused) {
		m.cfg.Log.Error("save after close failed", "err", err)
	}
	h.mu.Lock()
	writes := h.writable && h.isTree()
	inode := h.inode
	h.mu.Unlock()
	if writes {
		m.handles.done(inode)
	}
	if h.file != nil {
		m.locals.Release(h.file)
	}
}
