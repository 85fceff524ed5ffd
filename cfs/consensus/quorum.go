package consensus

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// quorumTicks is after how many ticks without a sign of a majority a node is not
// quorate any more. It is counted from the last sign, not from the moment at which
// the leader is given up, so that a node that is cut off refuses within a second.
// It must exceed the longest election timeout, which is 2*electionTicks-1: then
// the survivors of a lost leader have a new one before they notice anything. Only
// a vote that is split, or lost on the way, lets writers see it.
const quorumTicks = 2 * electionTicks

// ErrUncertain is the reason for which a change has no result although it was
// proposed: it may still happen. It is a kind of ErrNoQuorum, which by itself
// says that the change does not happen.
var ErrUncertain = fmt.Errorf("result unknown: %w", ErrNoQuorum)

// hear notes a message as a sign of its sender, and of a majority if the sender
// leads one.
func (n *Node) hear(m *raftpb.Message) {
	n.heard[m.GetFrom()] = n.ticks
	if s := n.status.Load(); s.Leader == m.GetFrom() && m.GetTerm() >= s.Term {
		n.silent = 0
	}
}

// listen counts one more tick of silence. A leader knows by itself since when it
// has not heard a majority.
func (n *Node) listen() {
	n.silent++
	if n.leads() {
		n.silent = n.majoritySilent()
	}
	// A leader may lose sight of its majority for a moment, as a new one does whose
	// voters were cut off until now, and has nothing to apply that would show its
	// return.
	quorate := n.quorate()
	if s := n.status.Load(); s.Quorate != quorate {
		n.publishStatus(s.Applied)
		if quorate {
			n.log.Info("quorum regained")
		} else {
			n.log.Warn("quorum lost")
		}
	}
	if quorate {
		return
	}
	n.abandon()
}

// majoritySilent returns for how many ticks less than a majority of the voters
// has been heard.
func (n *Node) majoritySilent() uint64 {
	ages := make([]uint64, 0, len(n.members.GetVoters()))
	for _, id := range n.members.GetVoters() {
		age := n.ticks - n.heard[id]
		if id == n.opt.ID {
			age = 0
		}
		ages = append(ages, age)
	}
	if len(ages) == 0 {
		return quorumTicks
	}
	slices.Sort(ages)
	return ages[len(ages)/2]
}

func (n *Node) quorate() bool { return n.silent < quorumTicks }

func (n *Node) leads() bool { return n.raft.BasicStatus().RaftState == raft.StateLeader }

// abandon ends all proposals that wait. Those that no leader has taken do not
// happen any more.
func (n *Node) abandon() {
	for _, p := range n.waiting() {
		n.finish(p.id, outcome{err: p.withoutQuorum()})
	}
}

func (p *proposal) withoutQuorum() error {
	if p.handed {
		return ErrUncertain
	}
	return ErrNoQuorum
}

// waiting returns the proposals in flight in the order in which they were made.
func (n *Node) waiting() []*proposal {
	list := make([]*proposal, 0, len(n.pending))
	for _, p := range n.pending {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *proposal) int { return int(a.number) - int(b.number) })
	return list
}

// attempt hands a proposal to Raft. If there is no leader just now, it is made
// again when there is one.
func (n *Node) attempt(p *proposal) {
	p.made = n.ticks
	if p.change != nil {
		n.attemptChange(p)
		return
	}
	switch err := n.raft.Propose(p.data); {
	case err == nil:
		p.handed = true
	case !errors.Is(err, raft.ErrProposalDropped):
		n.finish(p.id, outcome{err: fmt.Errorf("consensus: propose: %w", err)})
	}
}

// repeat makes proposals again whose message may have died with a leader or on
// the way. The tree knows their IDs and applies each once.
func (n *Node) repeat(after uint64) {
	for _, p := range n.waiting() {
		switch {
		case p.ctx.Err() != nil:
			delete(n.pending, p.id)
		case n.ticks-p.made >= after || p.change != nil:
			n.attempt(p)
		}
	}
}
