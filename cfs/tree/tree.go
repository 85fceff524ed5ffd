// Package tree is the namespace of the cluster file system in RAM.
//
// It owns every file and directory under /etc/pve and the rules of changing
// them: commands are applied in the order of the log and come to the same
// result on every node. It never touches a disk, a network or a clock, and it
// never looks at content.
//
// The tree is read by many goroutines and changed by one. A change is made in a
// Txn, which readers see as a whole when it is published.
package tree

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"etcpve/cfs/layout"
)

// Root is the inode of the root directory, which is its own parent.
const Root = 0

// Entry is one file or directory. It is a snapshot: Data is never modified.
type Entry struct {
	Inode, Parent uint64
	Version       uint64 // the tree's version at the last change of this entry
	Writer        uint32 // numeric id of the node that changed it last
	Mtime         int64  // Unix seconds
	Dir           bool
	Name          string
	Data          []byte
	Dirs          int // number of directories in this directory
	Children      int // number of entries in this directory
}

// place is where a directory entry hangs.
type place struct {
	parent uint64
	name   string
}

// Tree is the namespace. Its methods are safe for concurrent use, except that
// only one Txn may exist at a time.
type Tree struct {
	mu sync.RWMutex // guards what follows

	entries  map[uint64]*Entry // the entries pointed to are never modified
	children map[uint64]map[string]uint64
	guests   guests
	counters counters
	recent   recent
	version  uint64
	index    uint64
	bytes    int
}

// New returns an empty tree.
func New() *Tree {
	t := &Tree{}
	t.clear()
	return t
}

func (t *Tree) clear() {
	t.entries = map[uint64]*Entry{Root: {Dir: true}}
	t.children = map[uint64]map[string]uint64{}
	t.guests = guests{byID: map[uint32]Guest{}}
	t.counters = counters{}
	t.recent = newRecent()
	t.version, t.index, t.bytes = 0, 0, 0
}

// Get returns the entry with the given inode.
func (t *Tree) Get(inode uint64) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return value(t.entries[inode])
}

// Child returns the entry called name in a directory.
func (t *Tree) Child(parent uint64, name string) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	inode, ok := t.children[parent][name]
	if !ok {
		return Entry{}, false
	}
	return value(t.entries[inode])
}

// List returns the entries of a directory in byte order of their names.
func (t *Tree) List(inode uint64) []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := t.children[inode]
	list := make([]Entry, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, *t.entries[names[name]])
	}
	return list
}

// Path returns where an entry is.
func (t *Tree) Path(inode uint64) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return pathOf(func(inode uint64) *Entry { return t.entries[inode] }, inode)
}

// Lookup returns the entry at path.
func (t *Tree) Lookup(path string) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	inode := uint64(Root)
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		next, ok := t.children[inode][name]
		if !ok {
			return Entry{}, false
		}
		inode, path = next, rest
	}
	return value(t.entries[inode])
}

// Usage returns the content in bytes and the number of files and directories
// below the root.
func (t *Tree) Usage() (bytes, inodes int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bytes, len(t.entries) - 1
}

// Index returns the log index of the last command applied.
func (t *Tree) Index() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.index
}

// Version returns the number of the last change; it rises by one with each.
func (t *Tree) Version() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.version
}

func value(e *Entry) (Entry, bool) {
	if e == nil {
		return Entry{}, false
	}
	return *e, true
}

// pathOf climbs from an entry to the root.
func pathOf(get func(uint64) *Entry, inode uint64) (string, bool) {
	path := ""
	for inode != Root {
		e := get(inode)
		if e == nil {
			return "", false
		}
		if path == "" {
			path = e.Name
		} else {
			path = e.Name + "/" + path
		}
		inode = e.Parent
	}
	return path, true
}

// isLock reports whether e at path is a cluster-wide lock.
func isLock(e *Entry, path string) bool { return e != nil && e.Dir && layout.IsLock(path) }
