package tree

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// difference returns the changes that lead from one tree to another, as if they
// had been applied at the index of the second: what was removed, from the
// leaves on, then what has another name, then what is new, from the root on,
// then what has another content. Who made them, and when, is not known beyond
// what the entries say.
func difference(from, to *Tree) []Change {
	var removed, renamed, created, modified []Change
	for _, inode := range slices.Sorted(maps.Keys(from.entries)) {
		if _, stays := to.entries[inode]; !stays {
			removed = append(removed, to.change(Removed, from, inode))
		}
	}
	replaced := map[place]uint64{}
	for _, inode := range slices.Sorted(maps.Keys(to.entries)) {
		e, was := to.entries[inode], from.entries[inode]
		switch {
		case inode == Root:
		case was == nil:
			created = append(created, to.change(Created, to, inode))
		case was.Parent != e.Parent || was.Name != e.Name:
			c := to.change(Renamed, to, inode)
			c.From, _ = pathOf(from.entry, inode)
			c.FromParent = was.Parent
			at := place{e.Parent, e.Name}
			other := from.children[at.parent][at.name]
			if to.entries[other] == nil { // else it has moved as well
				c.Replaced, replaced[at] = other, other
			}
			renamed = append(renamed, c)
		case was.Version != e.Version && !e.Dir:
			modified = append(modified, to.change(Modified, to, inode))
		case was.Version != e.Version:
			modified = append(modified, to.change(Touched, to, inode))
		}
	}
	// What another entry has taken the place of is part of that change.
	removed = slices.DeleteFunc(removed, func(c Change) bool {
		e := from.entries[c.Inode]
		return replaced[place{e.Parent, e.Name}] == c.Inode
	})
	slices.SortStableFunc(removed, func(a, b Change) int { return cmp.Compare(depth(b), depth(a)) })
	slices.SortStableFunc(created, func(a, b Change) int { return cmp.Compare(depth(a), depth(b)) })
	return slices.Concat(removed, renamed, created, modified)
}

func depth(c Change) int { return strings.Count(c.Path, "/") }

// change describes an entry of the tree `in` as something that has happened to it
// on the way to t.
func (t *Tree) change(kind Kind, in *Tree, inode uint64) Change {
	e := in.entries[inode]
	path, _ := pathOf(in.entry, inode)
	version := e.Version
	if kind == Removed {
		version = t.version
	}
	return Change{Index: t.index, Kind: kind, Path: path, Inode: inode, Parent: e.Parent,
		Dir: e.Dir, Size: len(e.Data), Version: version, Time: e.Mtime}
}

func (t *Tree) entry(inode uint64) *Entry { return t.entries[inode] }
