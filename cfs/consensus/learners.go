package consensus

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A learner hears what is committed from a voter that follows (Committed, Feed), so that
// a commit costs the leader the same however many nodes there are. Raft knows nothing of
// it: to the leader's Raft, its own messages to such a learner were lost, which it can
// deal with, and the learner confirms what it was fed as if the leader had sent it. A
// learner that has not confirmed what the leader had a tick or two ago is late, and gets
// everything from the leader until it is not.
type learners struct {
	older, ripe uint64 // last index at the last tick, and at the one before
}

// tick lets time pass; last is the last index of the log.
func (l *learners) tick(last uint64) { l.ripe, l.older = l.older, last }

// isPunctual reports whether a learner has confirmed what is ripe.
func (l *learners) isPunctual(pr tracker.Progress) bool {
	return pr.State == tracker.StateReplicate && pr.Match >= l.ripe
}

// spared returns the learners that the leader need not send entries to in this round.
func (n *Node) spared(messages []*raftpb.Message) map[uint64]bool {
	appends := false
	for _, m := range messages {
		appends = appends || m.GetType() == raftpb.MsgApp
	}
	if len(n.members.GetLearners()) == 0 || !appends || !n.leads() || !n.hasTeller() {
		return nil
	}
	spared := map[uint64]bool{}
	n.raft.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		if kind == raft.ProgressTypeLearner && n.learners.isPunctual(pr) {
			spared[id] = true
		}
	})
	return spared
}

// hasTeller reports whether there is another voter, which can tell the learners.
func (n *Node) hasTeller() bool {
	for _, id := range n.members.GetVoters() {
		if tick, heard := n.heard[id]; heard && id != n.opt.ID && n.ticks-tick < electionTicks {
			return true
		}
	}
	return false
}

// ShareOf returns the learners that a voter tells what is committed. The voters that
// follow and answer share them, each learner having one of them; the leader tells none.
func ShareOf(id uint64, s Status, answers func(id uint64) bool) (share []uint64) {
	tellers, own := uint64(0), uint64(0)
	found := false
	for _, voter := range s.Voters {
		if voter == s.Leader || voter != id && !answers(voter) {
			continue
		}
		if voter == id {
			own, found = tellers, true
		}
		tellers++
	}
	if !found || s.Leader == raft.None {
		return nil
	}
	for i, learner := range s.Learners {
		if uint64(i)%tellers == own {
			share = append(share, learner)
		}
	}
	return share
}
