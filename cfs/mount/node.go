package mount

import (
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Node ids: the kernel names what it has looked up by them. An entry of the
// tree has its inode plus one, as the kernel's root is 1 and the tree's is 0.
const (
	localIDs   = 1 << 60 // files that only this node has
	virtualIDs = 2 << 60 // names of virtual files
)

func nodeID(inode uint64) uint64 { return inode + 1 }

// node is what a node id stands for: exactly one of an entry of the tree, a
// local file or a virtual name.
type node struct {
	entry tree.Entry
	local *local.File
	name  string
}

func (n node) isTree() bool { return n.local == nil && n.name == "" }

// resolve returns what the kernel means by id.
func (m *Mount) resolve(id uint64) (node, bool) {
	switch {
	case id >= virtualIDs:
		name, ok := m.names.Name(id)
		return node{name: name}, ok
	case id >= localIDs:
		f, inode, ok := m.locals.Get(id)
		if !ok || inode == 0 {
			return node{local: f}, ok
		}
		id = nodeID(inode)
	}
	e, ok := m.cfg.Tree.Get(id - 1)
	if !ok {
		e, ok = m.queue.ghost(id - 1)
	}
	return node{entry: e}, ok
}

// dir returns the directory of the tree that the kernel means by id, with its path.
func (m *Mount) dir(id uint64) (e tree.Entry, path string, ok bool) {
	if id >= localIDs {
		return e, "", false
	}
	e, ok = m.cfg.Tree.Get(id - 1)
	if !ok || !e.Dir {
		return e, "", false
	}
	path, ok = m.cfg.Tree.Path(e.Inode)
	return e, path, ok
}

// fill describes an entry of the tree.
func (m *Mount) fill(out *fuse.Attr, e tree.Entry) {
	path, _ := m.cfg.Tree.Path(e.Inode)
	mode := layout.Mode(path, e.Dir)
	if !m.cfg.Proposer.Quorate() {
		mode &^= 0o222
	}
	m.describe(out, nodeID(e.Inode), mode, e.Dir, len(e.Data), e.Mtime)
}

func (m *Mount) describe(out *fuse.Attr, ino uint64, mode uint32, dir bool, size int, mtime int64) {
	*out = fuse.Attr{Ino: ino, Mode: fuse.S_IFREG | mode, Nlink: 1, Size: uint64(size), Blksize: layout.BlockSize}
	if dir {
		out.Mode, out.Nlink, out.Size = fuse.S_IFDIR|mode, 2, 0
	}
	out.Blocks = (out.Size + 511) / 512
	out.Owner = fuse.Owner{Gid: m.cfg.GID}
	out.Atime, out.Mtime, out.Ctime = uint64(mtime), uint64(mtime), uint64(mtime)
}

// Forget is called when the kernel has dropped what it knew of a node.
func (m *Mount) Forget(id, lookups uint64) {
	switch {
	case id >= virtualIDs:
		m.names.Forget(id, lookups)
	case id >= localIDs:
		m.locals.Forget(id, lookups)
	default:
		m.known.Forget(id-1, lookups)
	}
}
