package tree

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/layout"
)

// State is the whole applied state, as it is stored and carried to other nodes.
// Entries excludes the root, whose attributes are Root's.
type State struct {
	Version, Index uint64
	Root           Entry
	Entries        []Entry
	Recent         []Remembered
}

// State returns the applied state, entries in the order of their inodes.
func (t *Tree) State() State {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := State{Version: t.version, Index: t.index, Root: *t.entries[Root], Recent: t.recent.clone()}
	s.Entries = make([]Entry, 0, len(t.entries)-1)
	for _, inode := range slices.Sorted(maps.Keys(t.entries)) {
		if inode != Root {
			s.Entries = append(s.Entries, *t.entries[inode])
		}
	}
	return s
}

// Restore replaces the whole tree by s. On error the tree stays as it was. Two
// configurations of one guest are an error, because no rule says which is right.
// It returns the changes that lead from the tree that was to the one that is.
func (t *Tree) Restore(s State) ([]Change, error) {
	fresh := New()
	root := Entry{Dir: true, Mtime: s.Root.Mtime, Writer: s.Root.Writer, Version: s.Root.Version}
	fresh.entries = make(map[uint64]*Entry, len(s.Entries)+1)
	fresh.entries[Root] = &root
	fresh.version, fresh.index = s.Version, s.Index
	for i := range s.Entries {
		if err := fresh.add(s.Entries[i]); err != nil {
			return nil, err
		}
	}
	if err := fresh.connect(); err != nil {
		return nil, err
	}
	if err := fresh.recent.restore(s.Recent); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	changes := difference(t, fresh)
	// Counters and list versions only ever rise, or readers would miss the change.
	fresh.guests.version += t.guests.version
	fresh.counters = t.counters
	for _, path := range observed {
		if _, ok := t.counters[path]; ok {
			fresh.counters[path]++
		}
	}
	t.entries, t.children, t.guests, t.counters = fresh.entries, fresh.children, fresh.guests, fresh.counters
	t.recent, t.version, t.index, t.bytes = fresh.recent, fresh.version, fresh.index, fresh.bytes
	return changes, nil
}

// add enters an entry without looking at its surroundings.
func (t *Tree) add(e Entry) error {
	if e.Inode == Root || e.Name == "" || strings.ContainsAny(e.Name, "/\x00") || e.Name == "." || e.Name == ".." {
		return fmt.Errorf("inode %d: name %q is not allowed", e.Inode, e.Name)
	}
	if _, ok := t.entries[e.Inode]; ok {
		return fmt.Errorf("inode %d: exists twice", e.Inode)
	}
	if other, ok := t.children[e.Parent][e.Name]; ok {
		return fmt.Errorf("inode %d: has the name of inode %d, %q", e.Inode, other, e.Name)
	}
	e.Children, e.Dirs = 0, 0
	t.entries[e.Inode] = &e
	t.link(place{e.Parent, e.Name}, e.Inode)
	t.version = max(t.version, e.Version, e.Inode)
	t.bytes += len(e.Data)
	return nil
}

// connect checks that everything hangs below the root and derives counts and guests.
func (t *Tree) connect() error {
	reached := 0
	for queue := []uint64{Root}; len(queue) > 0; queue = queue[1:] {
		dir := t.entries[queue[0]]
		reached++
		names := t.children[dir.Inode]
		if len(names) > 0 && !dir.Dir {
			return fmt.Errorf("inode %d: has entries but is not a directory", dir.Inode)
		}
		dir.Children = len(names)
		for _, inode := range names {
			if t.entries[inode].Dir {
				dir.Dirs++
			}
			queue = append(queue, inode)
		}
	}
	if reached != len(t.entries) {
		return fmt.Errorf("%d entries do not hang below the root", len(t.entries)-reached)
	}
	return t.findGuests()
}

func (t *Tree) findGuests() error {
	get := func(inode uint64) *Entry { return t.entries[inode] }
	for _, inode := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[inode]
		if e.Dir || !strings.HasSuffix(e.Name, ".conf") {
			continue
		}
		path, _ := pathOf(get, inode)
		g, ok := layout.GuestOf(path)
		if !ok {
			continue
		}
		if other, ok := t.guests.byID[g.VMID]; ok {
			return fmt.Errorf("guest %d has two configurations: %s and %s", g.VMID, other.Path(), path)
		}
		t.guests.set(g)
		if e.Version > e.Inode {
			t.guests.set(g) // created at one version, written at a later one: the list has counted both
		}
	}
	return nil
}
