package tree

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
)

// plain is the obvious implementation: a map from paths to contents, directories
// being nil. It knows the rules of names, not those of guests.
type plain map[string]*string

func (p plain) apply(c *command.Command) error {
	look := func(path string) error {
		for dir, _ := layout.Split(path); dir != ""; dir, _ = layout.Split(dir) {
			if above, ok := p[dir]; ok && above != nil {
				return ErrNotDir
			}
		}
		if dir, _ := layout.Split(path); dir != "" {
			if _, ok := p[dir]; !ok {
				return ErrNotExist
			}
		}
		return nil
	}
	full := func(path string) bool {
		for other := range p {
			if strings.HasPrefix(other, path+"/") {
				return true
			}
		}
		return false
	}
	if err := look(c.Path); err != nil {
		return err
	}
	old, exists := p[c.Path]
	isDir := exists && old == nil
	switch c.Op {
	case command.Write:
		if isDir {
			return ErrIsDir
		}
		data := string(c.Data)
		p[c.Path] = &data
		return nil
	case command.Mkdir:
		if exists {
			return ErrExist
		}
		p[c.Path] = nil
		return nil
	}
	switch {
	case !exists:
		return ErrNotExist
	case c.Op == command.Remove && isDir:
		return ErrIsDir
	case c.Op == command.Rmdir && !isDir:
		return ErrNotDir
	case c.Op != command.Remove && isDir && full(c.Path):
		return ErrNotEmpty
	}
	if c.Op != command.Rename {
		delete(p, c.Path)
		return nil
	}
	if err := look(c.To); err != nil {
		return err
	}
	target, taken := p[c.To]
	switch {
	case c.To == c.Path:
		return nil
	case strings.HasPrefix(c.To, c.Path+"/"):
		return ErrInvalid
	case taken && target == nil && !isDir:
		return ErrIsDir
	case taken && target != nil && isDir:
		return ErrNotDir
	case taken && target == nil && full(c.To):
		return ErrNotEmpty
	}
	delete(p, c.Path)
	p[c.To] = old
	return nil
}

// TestATransactionEqualsTheObviousTree applies random commands in batches of
// random length, and compares every result and every published state.
func TestATransactionEqualsTheObviousTree(t *testing.T) {
	ops := []command.Op{command.Write, command.Write, command.Mkdir, command.Remove, command.Rmdir, command.Rename, command.Rename}
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		path := func() string {
			p := string(rune('a' + random.IntN(4)))
			for random.IntN(2) == 0 && len(p) < 7 {
				p += "/" + string(rune('a'+random.IntN(3)))
			}
			return p
		}
		model, tr, index := plain{}, New(), uint64(0)
		for range 60 {
			x := tr.Begin()
			for range 1 + random.IntN(12) {
				index++
				c := &command.Command{Op: ops[random.IntN(len(ops))], Path: path(), To: path(), Data: []byte(fmt.Sprint(index))}
				want := model.apply(c)
				if r, _ := x.Apply(index, c); !errors.Is(r.Err, want) {
					t.Fatalf("seed %d: %v %s %s: %v, want %v", seed, c.Op, c.Path, c.To, r.Err, want)
				}
			}
			x.Publish()
			check(t, seed, tr, model)
		}
	}
}

// check compares a tree with the model, and with itself restored from its state.
func check(t *testing.T, seed uint64, tr *Tree, want plain) {
	t.Helper()
	got, size := plain{}, 0
	for _, e := range tr.State().Entries {
		path, _ := tr.Path(e.Inode)
		got[path] = nil
		if !e.Dir {
			data := string(e.Data)
			got[path] = &data
			size += len(data)
		}
		if found, ok := tr.Lookup(path); !ok || found.Inode != e.Inode {
			t.Fatalf("seed %d: %s leads to inode %d, not %d", seed, path, found.Inode, e.Inode)
		}
	}
	if !maps.EqualFunc(got, want, func(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }) {
		t.Fatalf("seed %d: the tree has %d entries, the model %d", seed, len(got), len(want))
	}
	if used, n := tr.Usage(); used != size || n != len(want) {
		t.Fatalf("seed %d: usage %d and %d, want %d and %d", seed, used, n, size, len(want))
	}
	restored := New()
	if _, err := restored.Restore(tr.State()); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if !reflect.DeepEqual(restored.State(), tr.State()) {
		t.Fatalf("seed %d: counts of the tree are not those of its entries", seed)
	}
}
