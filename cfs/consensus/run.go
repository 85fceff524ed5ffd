package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
)

// Run drives the node until ctx ends or its storage fails. After an error nothing
// more is acknowledged.
func (n *Node) Run(ctx context.Context) error {
	defer close(n.stopped)
	ticks := n.opt.Ticks
	if ticks == nil {
		ticker := time.NewTicker(TickEvery)
		defer ticker.Stop()
		ticks = ticker.C
		if n.alone() {
			ticker.Stop() // time means nothing to a group of one
		}
		n.onAlone = func(alone bool) {
			if ticker.Stop(); !alone {
				ticker.Reset(TickEvery)
			}
		}
	}
	if n.electsItself() {
		if err := n.raft.Campaign(); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	for {
		for n.raft.HasReady() {
			if err := n.handle(n.raft.Ready()); err != nil {
				return fmt.Errorf("consensus: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case p := <-n.proposals:
			n.proposeWith(p)
		case m := <-n.messages:
			if n.hasLost(m) {
				if n.saved == 0 {
					continue // on its way since before this node began anew
				}
				return fmt.Errorf("consensus: node %d has seen entry %d, the log ends at %d: %w", m.GetFrom(), m.GetCommit(), n.saved, ErrBehind)
			}
			n.step(m)
		case r := <-n.reports:
			n.tell(r)
		case <-ticks:
			n.tick()
		}
	}
}

func (n *Node) electsItself() bool { return slices.Equal(n.members.GetVoters(), []uint64{n.opt.ID}) }

func (n *Node) alone() bool { return n.electsItself() && len(n.members.GetLearners()) == 0 }

// proposeWith proposes p and everything else that waits, so that one sync serves
// them all.
func (n *Node) proposeWith(p *proposal) {
	for size, count := 0, 1; ; count++ {
		n.pending[p.id] = p
		n.attempt(p)
		if size += len(p.data); size >= batchBytes || count >= batchProposals {
			return
		}
		select {
		case p = <-n.proposals:
		default:
			return
		}
	}
}

// attempt hands a proposal to Raft. If there is no leader just now, it is made
// again when there is one.
func (n *Node) attempt(p *proposal) {
	p.made = n.ticks
	var err error
	if p.change != nil {
		err = n.raft.ProposeConfChange(p.change)
	} else {
		err = n.raft.Propose(p.data)
	}
	if err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		n.finish(p.id, outcome{err: fmt.Errorf("consensus: propose: %w", err)})
	}
}

func (n *Node) finish(id uint64, o outcome) {
	if p, ok := n.pending[id]; ok {
		delete(n.pending, id)
		p.done <- o
	}
}

// repeat makes proposals again whose message may have died with a leader or on
// the way. The tree knows their IDs and applies each once.
func (n *Node) repeat(after uint64) {
	for id, p := range n.pending {
		switch {
		case p.ctx.Err() != nil:
			delete(n.pending, id)
		case n.ticks-p.made >= after:
			n.attempt(p)
		}
	}
}

func (n *Node) step(m *raftpb.Message) {
	// A refused message is one that came too late; Raft has noted what matters.
	if err := n.raft.Step(m); err != nil {
		n.log.Debug("message refused", "node", m.GetFrom(), "err", err)
	}
}

// hasLost reports whether a leader believes that this node has an entry which it
// does not have. A leader's heartbeat names only what the node itself confirmed,
// so the disk has forgotten something since: it is an older copy.
func (n *Node) hasLost(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgHeartbeat && m.GetTerm() >= n.hard.Term && m.GetCommit() > n.saved
}

func (n *Node) tell(r report) {
	if !r.snapshot {
		n.raft.ReportUnreachable(r.to)
		return
	}
	status := raft.SnapshotFailure
	if r.arrived {
		status = raft.SnapshotFinish
	}
	n.raft.ReportSnapshot(r.to, status)
}

func (n *Node) tick() {
	n.ticks++
	n.raft.Tick()
	if n.raft.BasicStatus().Lead == raft.None {
		n.leaderless++
	}
	if n.leaderless == leaderlessTicks {
		for id := range n.pending {
			n.finish(id, outcome{err: ErrNoQuorum})
		}
		n.publishStatus(n.status.Load().Applied)
		n.log.Warn("quorum lost")
	}
	n.repeat(repeatTicks)
}

// handle does what Raft asks for, in the order that its documentation demands.
// What was on disk before this round is applied first, so that a sync does not
// delay it.
func (n *Node) handle(rd raft.Ready) error {
	leads := n.raft.BasicStatus().RaftState == raft.StateLeader
	if leads {
		n.send(rd.Messages) // a leader's followers write while it does
	}
	before := slices.IndexFunc(rd.CommittedEntries, func(e *raftpb.Entry) bool { return e.GetIndex() > n.saved })
	if before < 0 {
		before = len(rd.CommittedEntries)
	}
	if err := n.apply(rd.CommittedEntries[:before]); err != nil {
		return err
	}
	if err := n.save(rd); err != nil {
		return err
	}
	if !leads {
		n.send(rd.Messages)
	}
	if err := n.apply(rd.CommittedEntries[before:]); err != nil {
		return err
	}
	n.raft.Advance(rd)
	n.notice(rd)
	return nil
}

// save makes a round durable.
func (n *Node) save(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := n.install(rd.Snapshot); err != nil {
			return err
		}
	}
	if rd.HardState != nil {
		n.hard = command.HardState{Term: rd.HardState.GetTerm(), Vote: rd.HardState.GetVote(), Commit: rd.HardState.GetCommit()}
	}
	if rd.HardState == nil && len(rd.Entries) == 0 {
		return nil
	}
	if err := n.opt.Storage.Append(n.hard, stored(rd.Entries)); err != nil {
		return err
	}
	if k := len(rd.Entries); k > 0 {
		n.saved = rd.Entries[k-1].GetIndex()
		n.window.append(rd.Entries)
	}
	return nil
}

func (n *Node) install(s *raftpb.Snapshot) error {
	meta := s.GetMetadata()
	n.members = meta.GetConfState()
	if err := n.opt.Applier.Install(command.Snapshot{
		Index: meta.GetIndex(), Term: meta.GetTerm(), Members: encodeMembers(n.members), Tree: s.GetData(),
	}); err != nil {
		return err
	}
	n.saved = meta.GetIndex()
	n.window.reset(n.opt.Storage.Recovered())
	if n.opt.Replaced != nil {
		n.opt.Replaced()
	}
	n.publishStatus(n.saved)
	return nil
}

// apply carries out committed entries. A change of the members takes effect
// exactly after its entry.
func (n *Node) apply(entries []*raftpb.Entry) error {
	for len(entries) > 0 {
		some := entries
		if i := slices.IndexFunc(entries, func(e *raftpb.Entry) bool { return e.GetType() != raftpb.EntryNormal }); i >= 0 {
			some = entries[:i+1]
		}
		entries = entries[len(some):]
		list := stored(some)
		results, changes, err := n.opt.Applier.Apply(list)
		if err != nil {
			return err
		}
		last := some[len(some)-1]
		id, err := n.applyMembers(last)
		if err != nil {
			return err
		}
		if n.opt.Changes != nil && len(changes) > 0 {
			n.opt.Changes(changes)
		}
		n.publishStatus(last.GetIndex())
		for i, e := range list {
			if e.Kind == command.Change {
				n.finish(command.IDOf(e.Data), outcome{result: results[i]})
			}
		}
		n.finish(id, outcome{})
	}
	return nil
}

// applyMembers carries out a change of the members, if e is one, and returns the
// ID of its proposal.
func (n *Node) applyMembers(e *raftpb.Entry) (id uint64, err error) {
	if e.GetType() == raftpb.EntryNormal {
		return 0, nil
	}
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return 0, fmt.Errorf("log index %d: members: %w", e.GetIndex(), err)
	}
	n.members = n.raft.ApplyConfChange(cc)
	n.window.members = n.members
	n.opt.Applier.SetMembers(encodeMembers(n.members))
	if n.onAlone != nil {
		n.onAlone(n.alone())
	}
	n.log.Info("members changed", "index", e.GetIndex(), "voters", n.members.GetVoters(), "learners", n.members.GetLearners())
	if len(cc.GetContext()) == 8 {
		id = binary.LittleEndian.Uint64(cc.GetContext())
	}
	return id, nil
}

// notice reacts to a new leader.
func (n *Node) notice(rd raft.Ready) {
	if rd.SoftState == nil {
		return
	}
	if rd.SoftState.Lead != raft.None {
		n.leaderless = 0
		n.publishStatus(n.status.Load().Applied)
		n.log.Info("leader known", "node", rd.SoftState.Lead, "term", n.hard.Term)
		n.repeat(0)
	}
}

func (n *Node) send(messages []*raftpb.Message) {
	for _, m := range messages {
		if n.opt.Transport == nil || m.GetTo() == n.opt.ID {
			continue
		}
		b, err := proto.Marshal(m)
		if err != nil {
			n.log.Error("message not sent", "node", m.GetTo(), "err", err)
			continue
		}
		n.opt.Transport.Send(m.GetTo(), b)
	}
}

// publishStatus shows where the node stands. A group whose leader was lost a
// moment ago counts as quorate until an election must have ended.
func (n *Node) publishStatus(applied uint64) {
	b := n.raft.BasicStatus()
	old := n.status.Load()
	quorate := b.Lead != raft.None || old != nil && old.Quorate && n.leaderless < leaderlessTicks
	n.status.Store(&Status{
		ID: n.opt.ID, Leader: b.Lead, Term: b.GetTerm(), Commit: b.GetCommit(), Applied: applied,
		Voters: n.members.GetVoters(), Learners: n.members.GetLearners(), Quorate: quorate,
	})
}

// stored translates entries for the storage.
func stored(entries []*raftpb.Entry) []command.Entry {
	list := make([]command.Entry, len(entries))
	for i, e := range entries {
		list[i] = command.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()}
		if e.GetType() != raftpb.EntryNormal {
			list[i].Kind = command.Membership
		}
	}
	return list
}
