package database

import (
	"context"
	"fmt"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// Bootstrap makes what the database holds the beginning of a group's log: the
// state at its base. Whoever joins later gets it as a snapshot.
func (d *Database) Bootstrap(members []byte) error {
	index := d.Recovered().Applied + 1
	_, err := d.replace(command.Snapshot{Index: index, Term: 1, Members: members}, false)
	return err
}

// Snapshot returns the applied state.
func (d *Database) Snapshot() (command.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.Err(); err != nil {
		return command.Snapshot{}, err
	}
	return command.Snapshot{Index: d.applied.index, Term: d.applied.term, Members: d.applied.members, Tree: d.tree.State().Marshal()}, nil
}

// Install replaces tree and log by a snapshot that another node has sent. It
// returns the changes of the tree.
func (d *Database) Install(s command.Snapshot) ([]tree.Change, error) { return d.replace(s, true) }

// replace makes s the state at the base of an empty log. The history stays.
func (d *Database) replace(s command.Snapshot, whole bool) (changes []tree.Change, err error) {
	if err := d.Flush(context.Background()); err != nil {
		return nil, err
	}
	d.flushing.Lock()
	defer d.flushing.Unlock()
	if whole {
		if changes, err = d.replaceTree(s); err != nil {
			return nil, d.fail("install a snapshot", err)
		}
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	hard := d.hard
	hard.Term, hard.Commit = max(hard.Term, s.Term), s.Index
	b := batch{applied: applied{s.Index, s.Term, s.Members}, version: d.tree.Version()}
	b.root, _ = d.tree.Get(0)
	err = d.w.transaction(func() error {
		if err := d.setBase(s.Index, s.Term); err != nil {
			return err
		}
		if err := d.setMeta(metaTerm, hard.Term); err != nil {
			return err
		}
		if whole {
			if err := d.rewrite(); err != nil {
				return err
			}
		}
		return d.writeApplied(b)
	})
	if err != nil {
		return nil, d.fail("replace the log", err)
	}
	x := d.tree.Begin()
	x.Skip(s.Index)
	x.Publish()
	d.hard, d.applied = hard, b.applied
	d.logged.base, d.logged.baseTerm, d.logged.last = s.Index, s.Term, s.Index
	return changes, nil
}

func (d *Database) replaceTree(s command.Snapshot) ([]tree.Change, error) {
	state, err := tree.UnmarshalState(s.Tree)
	if err != nil {
		return nil, err
	}
	changes, err := d.tree.Restore(state)
	if err != nil {
		return nil, fmt.Errorf("snapshot at %d: %w", s.Index, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content = map[uint64]int64{}
	return changes, nil
}

// rewrite stores the whole tree anew. Entries of the log that the snapshot
// contradicts go; older ones stay for the history.
func (d *Database) rewrite() error {
	if err := d.w.script("DELETE FROM tree; DELETE FROM content; DELETE FROM recent"); err != nil {
		return err
	}
	state := d.tree.State()
	if err := d.w.exec("DELETE FROM log WHERE idx > ?", int64(state.Index)); err != nil {
		return err
	}
	for _, e := range state.Entries {
		if err := d.writeRow(row{Entry: e}); err != nil {
			return err
		}
	}
	return d.writeRecent(state.Recent)
}
