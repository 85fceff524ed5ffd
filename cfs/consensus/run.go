package consensus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
)

// Run drives the node until ctx ends or its storage fails. After an error nothing
// more is acknowledged. A leader hands its duty over before it returns, for which
// messages must be carried a little longer than ctx lasts.
func (n *Node) Run(ctx context.Context) (err error) {
	defer close(n.stopped)
	defer func() {
		// Raft panics when its log cannot be read and when a member breaks the
		// protocol. This node ends then; the file system it belongs to says why.
		if p := recover(); p != nil {
			n.log.Error("consensus broken", "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("consensus: %v: %w", p, errors.Join(ErrBroken, n.window.err))
		}
	}()
	ticks := n.opt.Ticks
	if ticks == nil {
		n.pulse = newPulse(n.opt.ID)
		defer n.pulse.ticker.Stop()
		n.pulse.rest(n.alone())
		ticks = n.pulse.ticker.C
	}
	if n.electsItself() {
		if err := n.raft.Campaign(); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	return n.drive(ctx.Done(), ticks)
}

// drive is the loop of Run.
func (n *Node) drive(stop <-chan struct{}, ticks <-chan time.Time) error {
	var deadline <-chan time.Time // of the hand-over
	for {
		for n.raft.HasReady() {
			if err := n.handle(n.raft.Ready()); err != nil {
				return fmt.Errorf("consensus: %w", err)
			}
		}
		if deadline != nil && n.succeeded() {
			return nil
		}
		select {
		case <-stop:
			if !n.handOver() {
				return nil
			}
			stop, deadline = nil, time.After(handOverWithin)
		case <-deadline:
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
		case do := <-n.calls:
			if err := do(); err != nil {
				return fmt.Errorf("consensus: %w", err)
			}
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
		switch {
		case !n.quorate():
			p.done <- outcome{err: ErrNoQuorum}
		case p.change != nil && n.isChanging():
			p.done <- outcome{err: ErrMembersChanged}
		default:
			n.proposed++
			p.number = n.proposed
			n.pending[p.id] = p
			n.attempt(p)
		}
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

func (n *Node) finish(id uint64, o outcome) {
	if p, ok := n.pending[id]; ok {
		delete(n.pending, id)
		p.done <- o
	}
}

func (n *Node) step(m *raftpb.Message) {
	if !readable(m) {
		n.log.Error("message refused: nobody could carry it out", "node", m.GetFrom(), "type", m.GetType().String())
		return
	}
	// A refused message is one that came too late; Raft has noted what matters.
	if err := n.raft.Step(m); err != nil {
		n.log.Debug("message refused", "node", m.GetFrom(), "err", err)
	}
	n.hear(m)
}

// readable reports whether a message of another member can be taken. Raft panics
// at what no member sends; a proposal that cannot be read would, once in the log,
// stop every node for good; and members are changed by the leader alone.
func readable(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgSnap:
		return !raft.IsEmptySnap(m.GetSnapshot())
	case raftpb.MsgProp:
		for _, e := range m.GetEntries() {
			if _, err := command.Unmarshal(e.GetData()); err != nil || e.GetType() != raftpb.EntryNormal {
				return false
			}
		}
		return len(m.GetEntries()) > 0
	}
	return true
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
		// The leader may never have seen what was handed to it. All of it is made again
		// with the next tick: a report for each message that is lost must not bring
		// forth as many messages again.
		n.missed = n.missed || n.raft.BasicStatus().Lead == r.to
		return
	}
	delete(n.snapshots, r.to)
	status := raft.SnapshotFailure
	if r.arrived {
		status = raft.SnapshotFinish
	}
	n.raft.ReportSnapshot(r.to, status)
}

func (n *Node) tick() {
	n.pulse.beat()
	n.ticks++
	n.raft.Tick()
	n.learners.tick(n.saved)
	n.missSnapshots()
	n.listen()
	n.campaign()
	after := uint64(repeatTicks)
	if n.missed {
		after, n.missed = 0, false
	}
	n.repeat(after)
}

// campaign asks for votes as soon as the leader may be given up, and again for as
// long as there is none. Raft by itself draws lots so that nodes do not ask at the
// same moment, and waits for up to twice as long; here their clocks see to that (see
// pulse), the first time. Whoever heard the leader last answers a tick later only,
// so all ask twice. Then lots decide here too: it is not sure that clocks agree, and
// messages may travel for longer than a tick.
func (n *Node) campaign() {
	state := n.raft.BasicStatus().RaftState
	if n.elected++; state != raft.StateCandidate {
		n.elected = 0
	}
	counting := 0 < n.elected && n.elected <= candidateTicks
	patient := n.silent < electionTicks || n.silent > electionTicks+1 && !n.lot()
	if state == raft.StateLeader || counting || patient {
		return
	}
	if err := n.raft.Campaign(); err != nil {
		n.log.Debug("votes not asked for", "err", err)
	}
}

// lot is drawn in each tick; no two nodes keep drawing the same.
func (n *Node) lot() bool {
	x := (n.opt.ID*0x9e3779b97f4a7c15 ^ n.ticks) * 0xbf58476d1ce4e5b9
	return (x^x>>31)*0x94d049bb133111eb>>63 == 0
}

// handle does what Raft asks for, in the order that its documentation demands.
// What was on disk before this round is applied first, so that a sync does not
// delay it.
func (n *Node) handle(rd raft.Ready) error {
	early := n.leads() && !n.newTerm(rd)
	if early {
		n.send(rd.Messages) // a leader's followers write while it does
	}
	n.noteChange(rd.Entries)
	before := n.durable(rd)
	if err := n.apply(rd.CommittedEntries[:before]); err != nil {
		return err
	}
	if err := n.save(rd); err != nil {
		return err
	}
	if !early {
		n.send(rd.Messages)
	}
	if err := n.apply(rd.CommittedEntries[before:]); err != nil {
		return err
	}
	n.raft.Advance(rd)
	n.notice(rd)
	n.repeatChange()
	return nil
}

// newTerm reports whether a round brings a term or a vote that is not on disk yet.
func (n *Node) newTerm(rd raft.Ready) bool {
	return rd.HardState != nil && (rd.HardState.GetTerm() != n.hard.Term || rd.HardState.GetVote() != n.hard.Vote)
}

// durable returns how many of the committed entries of a round are on disk. An
// entry that the round replaces is there, but not as it was committed.
func (n *Node) durable(rd raft.Ready) int {
	last := n.saved
	if len(rd.Entries) > 0 {
		last = min(last, rd.Entries[0].GetIndex()-1)
	}
	if i := slices.IndexFunc(rd.CommittedEntries, func(e *raftpb.Entry) bool { return e.GetIndex() > last }); i >= 0 {
		return i
	}
	return len(rd.CommittedEntries)
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
	changes, err := n.opt.Applier.Install(command.Snapshot{
		Index: meta.GetIndex(), Term: meta.GetTerm(), Members: encodeMembers(n.members), Tree: s.GetData(),
	})
	if err != nil {
		return err
	}
	n.saved = meta.GetIndex()
	n.window.reset(n.opt.Storage.Recovered())
	if n.opt.Changes != nil && len(changes) > 0 {
		n.opt.Changes(changes)
	}
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
		last := some[len(some)-1]
		id, members, err := n.applyMembers(last)
		if err != nil {
			return err
		}
		list := stored(some)
		results, changes, err := n.opt.Applier.Apply(list, members)
		if err != nil {
			return err
		}
		n.publishStatus(last.GetIndex())
		if n.opt.Changes != nil && len(changes) > 0 {
			n.opt.Changes(changes)
		}
		for i, e := range list {
			if e.Kind == command.Change {
				n.finish(command.IDOf(e.Data), outcome{result: results[i]})
			}
		}
		n.finish(id, outcome{})
	}
	return nil
}

// notice reacts to a new leader, which a majority has elected, or to its loss.
func (n *Node) notice(rd raft.Ready) {
	if rd.SoftState == nil {
		return
	}
	if rd.SoftState.Lead != raft.None {
		n.silent = 0
	}
	n.publishStatus(n.status.Load().Applied)
	if rd.SoftState.Lead != raft.None {
		n.log.Info("leader known", "node", rd.SoftState.Lead, "term", n.hard.Term)
		n.repeat(0)
	}
}

func (n *Node) send(messages []*raftpb.Message) {
	spared := n.spared(messages)
	for _, m := range messages {
		if n.opt.Transport == nil || m.GetTo() == n.opt.ID || m.GetType() == raftpb.MsgApp && spared[m.GetTo()] || n.isEcho(m) {
			continue
		}
		b, err := proto.Marshal(m)
		if err != nil {
			n.log.Error("message not sent", "node", m.GetTo(), "err", err)
			continue
		}
		n.expectSnapshot(m, len(b))
		n.opt.Transport.Send(m.GetTo(), b)
	}
}

// publishStatus shows where the node stands.
func (n *Node) publishStatus(applied uint64) {
	b := n.raft.BasicStatus()
	was := n.status.Swap(&Status{
		ID: n.opt.ID, Leader: b.Lead, Term: b.GetTerm(), Commit: b.GetCommit(), Applied: applied,
		Voters: n.members.GetVoters(), Learners: n.members.GetLearners(), Quorate: n.quorate(),
	})
	if was == nil || was.Quorate != n.quorate() {
		select {
		case n.turns <- struct{}{}:
		default: // one is waiting already
		}
	}
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
