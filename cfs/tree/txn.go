package tree

import (
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
)

// Kind says what has happened to an entry.
type Kind uint8

// The kinds of change.
const (
	Created Kind = iota + 1
	Modified
	Removed
	Renamed
	Touched
)

// Change is one visible effect of a command.
type Change struct {
	Index    uint64 // of the log
	Kind     Kind
	Path     string // where the entry is now, or was until it was removed
	From     string // Renamed: where it was
	Inode    uint64
	Parent   uint64
	Replaced uint64 // Renamed: the entry that was there before; 0 = none
	// FromParent is the directory in which a renamed entry was.
	FromParent uint64
	Dir        bool
	Size       int
	Version    uint64
	Node       string
	UID        uint32
	Time       int64
	ID         uint64 // of the command
}

// Result is what a command came to. A refusal is a result like any other: the
// index counts as applied and every node refuses alike.
type Result struct {
	Index, Inode uint64
	Err          error
}

// Txn collects the effects of commands until they are published together. It
// belongs to one goroutine.
type Txn struct {
	t       *Tree
	entries map[uint64]*Entry // nil = removed
	names   map[place]uint64  // Root = removed, as the root has no name
	guests  []guestStep
	byVMID  map[uint32]layout.Guest // VMID 0 = removed
	counted []string
	recalls []Remembered
	byID    map[uint64]Result
	slot    uint32 // where the next result is remembered

	version, index uint64
	bytes, inodes  int

	command *command.Command // being applied
	changes []Change         // of the command being applied
}

// guestStep is a guest that has appeared, changed, moved or gone.
type guestStep struct {
	guest layout.Guest
	gone  bool
}

// Begin starts a Txn on top of what has been published.
func (t *Tree) Begin() *Txn {
	return &Txn{
		t:       t,
		entries: map[uint64]*Entry{},
		names:   map[place]uint64{},
		byVMID:  map[uint32]layout.Guest{},
		byID:    map[uint64]Result{},
		slot:    t.recent.next,
		version: t.version,
		index:   t.index,
		bytes:   t.bytes,
		inodes:  len(t.entries) - 1,
	}
}

// Apply carries out the command at a log index. A command that is refused
// changes nothing.
func (x *Txn) Apply(index uint64, c *command.Command) (Result, []Change) {
	x.index = index
	if first, ok := x.known(c.ID); ok {
		return first, nil
	}
	x.command, x.changes = c, nil
	inode, err := x.run(c)
	r := Result{Index: index, Inode: inode, Err: err}
	if c.ID != 0 {
		x.recalls = append(x.recalls, Remembered{Slot: x.slot, ID: c.ID, Index: index, Inode: inode, Code: codeOf(err)})
		x.byID[c.ID] = r
		x.slot = (x.slot + 1) % maxRecent
	}
	return r, x.changes
}

// known returns the result of a command that has been applied before.
func (x *Txn) known(id uint64) (Result, bool) {
	if id == 0 {
		return Result{}, false
	}
	if r, ok := x.byID[id]; ok {
		return r, true
	}
	return x.t.recent.find(id)
}

// Dirty returns the inodes of the entries that were created, changed or removed.
func (x *Txn) Dirty() []uint64 { return slices.Collect(maps.Keys(x.entries)) }

// Remembered returns the results that were added to the tree's memory.
func (x *Txn) Remembered() []Remembered { return x.recalls }

// Skip counts a log index that holds no command as applied.
func (x *Txn) Skip(index uint64) { x.index = index }

// Publish shows all effects to readers at once. The Txn must not be used again.
func (x *Txn) Publish() {
	t := x.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, inode := range x.names {
		t.link(p, inode)
	}
	for inode, e := range x.entries {
		if e == nil {
			delete(t.entries, inode)
		} else {
			t.entries[inode] = e
		}
	}
	for _, s := range x.guests {
		if s.gone {
			t.guests.drop(s.guest.VMID)
		} else {
			t.guests.set(s.guest)
		}
	}
	for _, path := range x.counted {
		t.counters.count(path)
	}
	for _, m := range x.recalls {
		t.recent.remember(m)
	}
	t.version, t.index, t.bytes = x.version, x.index, x.bytes
}

// link hangs an entry at a place, or takes what is there away.
func (t *Tree) link(p place, inode uint64) {
	names := t.children[p.parent]
	if inode != Root {
		if names == nil {
			names = map[string]uint64{}
			t.children[p.parent] = names
		}
		names[p.name] = inode
		return
	}
	delete(names, p.name)
	if len(names) == 0 {
		delete(t.children, p.parent)
	}
}

func (x *Txn) get(inode uint64) *Entry {
	if e, ok := x.entries[inode]; ok {
		return e
	}
	return x.t.entries[inode]
}

func (x *Txn) child(parent uint64, name string) *Entry {
	inode, ok := x.names[place{parent, name}]
	if !ok {
		inode = x.t.children[parent][name]
	}
	if inode == Root {
		return nil
	}
	return x.get(inode)
}

func (x *Txn) guest(vmid uint32) (layout.Guest, bool) {
	if g, ok := x.byVMID[vmid]; ok {
		return g, g.VMID != 0
	}
	g, ok := x.t.guests.byID[vmid]
	return g.Guest, ok
}

func (x *Txn) setGuest(g layout.Guest) {
	x.byVMID[g.VMID] = g
	x.guests = append(x.guests, guestStep{guest: g})
}

func (x *Txn) dropGuest(g layout.Guest) {
	x.byVMID[g.VMID] = layout.Guest{}
	x.guests = append(x.guests, guestStep{guest: g, gone: true})
}

// spot is a path taken apart: where it is and what is there.
type spot struct {
	path   string
	parent *Entry
	name   string
	entry  *Entry // nil = nothing
}

// find resolves path. Everything but the last element must exist.
func (x *Txn) find(path string) (spot, error) {
	if path == "" {
		return spot{}, ErrAccess // the root is not anybody's to change
	}
	s := spot{path: path, entry: x.get(Root)}
	for rest, more := path, true; more; {
		if s.entry == nil {
			return spot{}, ErrNotExist
		}
		if !s.entry.Dir {
			return spot{}, ErrNotDir
		}
		s.parent = s.entry
		s.name, rest, more = strings.Cut(rest, "/")
		if !layout.IsName(s.name) {
			return spot{}, ErrInvalid
		}
		s.entry = x.child(s.parent.Inode, s.name)
	}
	return s, nil
}

// findExisting resolves path, which must exist and have the version that the
// command expects.
func (x *Txn) findExisting(path string) (spot, error) {
	s, err := x.find(path)
	if err != nil {
		return s, err
	}
	if s.entry == nil {
		return s, ErrNotExist
	}
	return s, x.expected(s.entry)
}

func (x *Txn) expected(e *Entry) error {
	if want := x.command.Expect; want != 0 && (e == nil || e.Version != want) {
		return ErrConflict
	}
	return nil
}

// step begins the one change of version that a command makes.
func (x *Txn) step() { x.version++ }

// stamp marks e as changed by the command and stores it.
func (x *Txn) stamp(e Entry) *Entry {
	e.Version, e.Writer, e.Mtime = x.version, x.command.Writer, x.command.Time
	x.entries[e.Inode] = &e
	return &e
}

// attach hangs e at a spot that is free.
func (x *Txn) attach(at spot, e *Entry) {
	x.names[place{at.parent.Inode, at.name}] = e.Inode
	x.count(at, e, 1)
}

// detach takes the entry of a spot away from it.
func (x *Txn) detach(at spot) {
	x.names[place{at.parent.Inode, at.name}] = Root
	x.count(at, at.entry, -1)
}

// count keeps the numbers and the time of a directory that gained or lost e. The
// time of a lock is that of its last renewal, so it stays.
func (x *Txn) count(at spot, e *Entry, n int) {
	dir := *x.get(at.parent.Inode)
	dir.Children += n
	if e.Dir {
		dir.Dirs += n
	}
	if parent, _ := layout.Split(at.path); !layout.IsLock(parent) {
		dir.Mtime = x.command.Time
	}
	x.entries[dir.Inode] = &dir
}

// destroy takes an entry away for good.
func (x *Txn) destroy(at spot) {
	x.detach(at)
	x.entries[at.entry.Inode] = nil
	x.bytes -= len(at.entry.Data)
	x.inodes--
}

// report adds a change of the entry at a spot.
func (x *Txn) report(kind Kind, at spot, e *Entry) *Change {
	c := x.command
	x.changes = append(x.changes, Change{Index: x.index, Kind: kind, Path: at.path, Inode: e.Inode, Parent: at.parent.Inode,
		Dir: e.Dir, Size: len(e.Data), Version: x.version, Node: c.Node, UID: c.UID, Time: c.Time, ID: c.ID})
	if !e.Dir {
		x.counted = append(x.counted, at.path)
	}
	return &x.changes[len(x.changes)-1]
}
