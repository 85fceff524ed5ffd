package consensus

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// disk is a node's log and tree in RAM, whose syncs take virtual time.
type disk struct {
	tree *tree.Tree

	mu       sync.Mutex    // guards what follows
	slow     time.Duration // of a sync
	hard     command.HardState
	log      []command.Entry // from base+1 on
	base     command.Snapshot
	members  []byte
	term     uint64         // of the last entry that was applied
	syncs    int            // that wrote entries
	seen     map[uint64]int // command → how many entries carried it
	installs int
	full     error // what Room says
	fails    error // what everything else says
}

func newDisk() *disk { return &disk{tree: tree.New(), seen: map[uint64]int{}} }

func (d *disk) last() uint64 { return d.base.Index + uint64(len(d.log)) }

func (d *disk) Recovered() command.Recovered {
	d.mu.Lock()
	defer d.mu.Unlock()
	return command.Recovered{HardState: d.hard, Members: d.members, Applied: d.tree.Index(), Base: d.base.Index, Last: max(d.last(), d.tree.Index())}
}

func (d *disk) Append(hard command.HardState, entries []command.Entry) error {
	d.mu.Lock()
	slow := d.slow
	d.mu.Unlock()
	if len(entries) > 0 {
		time.Sleep(slow)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hard = hard
	if len(entries) == 0 {
		return d.fails
	}
	d.syncs++
	d.log = append(slices.Clone(d.log[:entries[0].Index-d.base.Index-1]), entries...)
	return d.fails
}

func (d *disk) Entries(lo, hi, limit uint64) ([]command.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if lo <= d.base.Index || hi > d.last()+1 {
		return nil, fmt.Errorf("entries %d to %d are not in the log", lo, hi)
	}
	return d.log[lo-d.base.Index-1 : hi-d.base.Index-1], d.fails
}

func (d *disk) Term(index uint64) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case index == d.base.Index:
		return d.base.Term, nil
	case index > d.base.Index && index <= d.last():
		return d.log[index-d.base.Index-1].Term, nil
	}
	return 0, fmt.Errorf("entry %d is not in the log", index)
}

func (d *disk) Room() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

func (d *disk) Apply(entries []command.Entry, members []byte) (results []tree.Result, changes []tree.Change, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.tree.Begin()
	for _, e := range entries {
		r := tree.Result{Index: e.Index}
		if e.Kind == command.Change && len(e.Data) > 0 {
			c, err := command.Unmarshal(e.Data)
			if err != nil {
				return nil, nil, err
			}
			var effects []tree.Change
			r, effects = x.Apply(e.Index, c)
			changes = append(changes, effects...)
			d.seen[c.ID]++
		} else {
			x.Skip(e.Index)
		}
		results, d.term = append(results, r), e.Term
	}
	x.Publish()
	if members != nil {
		d.members = members
	}
	return results, changes, d.fails
}

func (d *disk) Bootstrap(members []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.tree.Begin()
	x.Skip(1)
	x.Publish()
	d.base, d.members, d.term = command.Snapshot{Index: 1, Term: 1}, members, 1
	d.hard = command.HardState{Term: 1, Commit: 1}
	return nil
}

func (d *disk) Snapshot() (command.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return command.Snapshot{Index: d.tree.Index(), Term: d.term, Members: d.members, Tree: d.tree.State().Marshal()}, d.fails
}

func (d *disk) Install(s command.Snapshot) ([]tree.Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state, err := tree.UnmarshalState(s.Tree)
	if err != nil {
		return nil, err
	}
	d.base, d.log, d.members, d.term = command.Snapshot{Index: s.Index, Term: s.Term}, nil, s.Members, s.Term
	d.hard.Term, d.hard.Commit = max(d.hard.Term, s.Term), s.Index
	d.installs++
	return d.tree.Restore(state)
}

// trim forgets the part of the log that was applied.
func (d *disk) trim() {
	d.mu.Lock()
	defer d.mu.Unlock()
	applied := d.tree.Index()
	d.log = slices.Clone(d.log[applied-d.base.Index:])
	d.base = command.Snapshot{Index: applied, Term: d.term}
}

func (d *disk) slowDown(slow time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = slow
}

// count returns how many syncs wrote entries so far.
func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}
