package mount

import (
	"bytes"
	"errors"

	"etcpve/cfs/command"
	"etcpve/cfs/mount/content"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// save commits what a handle holds, if it holds anything new, and returns when
// it has been applied here.
func (m *Mount) save(cancel <-chan struct{}, h *handle, caller *fuse.InHeader) error {
	for {
		h.mu.Lock()
		m.adopt(h)
		if wait := h.saving; wait != nil { // another descriptor is being closed
			h.mu.Unlock()
			select {
			case <-wait:
			case <-cancel:
				return errInterrupted
			}
			continue
		}
		c, err := m.prepare(h, caller)
		if c == nil {
			h.mu.Unlock()
			return err
		}
		h.saving = make(chan struct{})
		h.mu.Unlock()

		if h.file != nil {
			m.awaitMove(cancel, m.locals.At(h.file))
		}
		r, err := m.propose(cancel, c, origin.Collected)

		h.mu.Lock()
		close(h.saving)
		h.saving = nil
		again := errors.Is(err, tree.ErrConflict) && h.appends
		switch {
		case again:
			h.saved = written // somebody else appended first: append to that
		case err == nil:
			m.committed(h, c, r)
		}
		h.mu.Unlock()
		if !again {
			return err
		}
	}
}

// prepare returns the command that saves a handle, or nil if there is nothing to
// save or it is refused. The caller holds the handle's lock.
func (m *Mount) prepare(h *handle, caller *fuse.InHeader) (*command.Command, error) {
	state := h.saved
	h.saved = clean
	switch {
	case state == clean:
		return nil, nil
	case h.failed != nil:
		return nil, h.failed
	case h.name != "":
		return nil, m.views.Write(h.name, h.data)
	case h.isTemporary():
		return nil, nil
	}
	path, ok := m.pathOf(h)
	if !ok { // removed while it was open: the content goes with it
		return nil, nil
	}
	c := m.command(caller, command.Write, path)
	c.UID = h.uid
	if h.time != 0 {
		c.Time = h.time
	}
	if h.appends && h.inode != 0 && h.added != nil {
		if err := m.rebase(h); err != nil {
			return nil, err
		}
		c.Expect = h.version
	}
	if err := m.judge().Save(path, h.data, h.uid); err != nil {
		h.failed = err
		return nil, err
	}
	c.Data, h.shared = h.data, true
	return c, nil
}

// rebase puts what was appended behind the content as it is now.
func (m *Mount) rebase(h *handle) error {
	e, ok := m.cfg.Tree.Get(h.inode)
	if !ok || e.Version == h.version {
		return nil
	}
	data, err := content.Splice(bytes.Clone(e.Data), uint64(len(e.Data)), h.added)
	if err != nil {
		return err
	}
	h.data, h.shared, h.version = data, false, e.Version
	return nil
}

// committed notes that a handle's content is in the tree. The caller holds the
// handle's lock.
func (m *Mount) committed(h *handle, c *command.Command, r tree.Result) {
	if h.inode == 0 {
		h.inode = r.Inode
		m.locals.Become(h.file, r.Inode)
		m.locals.Arrive(m.locals.At(h.file))
		if h.writable {
			m.handles.became(r.Inode)
		}
	}
	h.added = h.added[:0:0]
	h.version = 0
	if e, ok := m.cfg.Tree.Get(h.inode); ok && bytes.Equal(e.Data, c.Data) {
		h.version = e.Version
	}
	if h.saved == clean {
		h.data, h.shared = c.Data, true
	}
}
