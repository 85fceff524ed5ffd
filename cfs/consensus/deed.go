package consensus

import (
	"context"
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"etcpve/cfs/command"
)

// A Mark names one entry of the log. Two logs of one group that hold the same one are
// the same up to it.
type Mark struct{ Index, Term uint64 }

// Position is how far a node's log goes.
type Position struct {
	Deed   Mark   // the last entry that asks for a change of the tree, committed or not
	Last   uint64 // the last entry
	Commit uint64 // the last entry that is known to be committed
}

// deedsBehind is how many entries are looked at for the last one that changes the tree.
// Elections and starts leave others, a few each.
const deedsBehind = 4096

// Position returns how far the log of this node goes.
func (n *Node) Position(ctx context.Context) (p Position, err error) {
	e := n.inLoop(ctx, func() error {
		p.Last, p.Commit = n.saved, n.raft.BasicStatus().GetCommit()
		p.Deed, err = n.lastDeed()
		return nil
	})
	return p, errors.Join(e, err)
}

func (n *Node) lastDeed() (m Mark, err error) {
	m.Index = n.saved
	for ; m.Index+1 > n.window.first && n.saved-m.Index < deedsBehind; m.Index-- {
		entries, err := n.window.Entries(m.Index, m.Index+1, 0)
		if err != nil {
			return m, err
		}
		if isDeed(entries[0]) {
			break
		}
	}
	m.Term, err = n.window.Term(m.Index)
	return m, err
}

func isDeed(e *raftpb.Entry) bool {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return false
	}
	c, err := command.Unmarshal(e.GetData())
	return err != nil || c.Op != command.Noop
}

// Holds reports whether the log of this node has an entry; one that was trimmed is
// not known any more.
func (n *Node) Holds(ctx context.Context, m Mark) (holds bool, err error) {
	e := n.inLoop(ctx, func() error {
		term, failed := n.window.Term(m.Index)
		holds = failed == nil && term == m.Term
		return nil
	})
	return holds, e
}
