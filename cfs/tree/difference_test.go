package tree

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"etcpve/cfs/command"
)

// names is what somebody knows of a tree who only hears of changes.
type names struct {
	at   map[uint64]place  // of each entry
	held map[uint64]uint64 // versions of contents
}

func namesOf(t *Tree) names {
	n := names{map[uint64]place{}, map[uint64]uint64{}}
	for _, e := range t.State().Entries {
		n.at[e.Inode] = place{e.Parent, e.Name}
		if !e.Dir {
			n.held[e.Inode] = e.Version
		}
	}
	return n
}

// hear takes in a change, which must fit to what is known.
func (n names) hear(t *testing.T, c Change) {
	t.Helper()
	was, known := n.at[c.Inode]
	if known == (c.Kind == Created) && c.Inode != Root {
		t.Errorf("%v of %s: known before: %v", c.Kind, c.Path, known)
	}
	_, parent := n.at[c.Parent]
	switch c.Kind {
	case Created, Renamed:
		if c.Kind == Created && !parent && c.Parent != Root {
			t.Errorf("%s appears before its directory", c.Path)
		}
		if c.Kind == Renamed && was.parent != c.FromParent {
			t.Errorf("%s comes from directory %d, not %d", c.Path, was.parent, c.FromParent)
		}
		delete(n.at, c.Replaced)
		delete(n.held, c.Replaced)
		name := c.Path[len(c.Path)-1:] // names have one letter
		n.at[c.Inode] = place{c.Parent, name}
	case Removed:
		for inode, at := range n.at {
			if at.parent == c.Inode && !c.Dir {
				t.Errorf("%s goes before inode %d below it", c.Path, inode)
			}
		}
		delete(n.at, c.Inode)
		delete(n.held, c.Inode)
	}
	if !c.Dir && c.Kind != Removed {
		n.held[c.Inode] = c.Version
	}
}

// TestADifferenceLeadsFromOneTreeToTheOther compares what a listener knows after
// a snapshot with what there is.
func TestADifferenceLeadsFromOneTreeToTheOther(t *testing.T) {
	ops := []command.Op{command.Write, command.Write, command.Mkdir, command.Remove, command.Rmdir, command.Rename}
	renames := 0
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		path := func() string {
			p := string(rune('a' + random.IntN(4)))
			for random.IntN(2) == 0 && len(p) < 7 {
				p += "/" + string(rune('a'+random.IntN(3)))
			}
			return p
		}
		tr, behind := New(), New()
		for index := range uint64(120) {
			x := tr.Begin()
			x.Apply(index+1, &command.Command{Op: ops[random.IntN(len(ops))], Path: path(), To: path(), Data: fmt.Append(nil, index)})
			x.Publish()
			if random.IntN(20) != 0 {
				continue
			}
			known := namesOf(behind)
			changes, err := behind.Restore(tr.State())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				known.hear(t, c)
				if c.Kind == Renamed {
					renames++
				}
			}
			want := namesOf(tr)
			if !maps.Equal(known.at, want.at) || !maps.Equal(known.held, want.held) {
				t.Fatalf("seed %d: after %d changes known are %v, there are %v", seed, len(changes), known, want)
			}
		}
	}
	if renames == 0 {
		t.Error("no rename occurred")
	}
}
