package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Role is what a member does.
type Role uint8

// The roles. A Learner has all data and no vote.
const (
	Gone Role = iota
	Learner
	Voter
)

// Reasons for which the members stay as they are.
var (
	ErrNotLeader = errors.New("only the leader changes the members")
	// ErrMembersChanged says that the change was decided on by looking at members
	// that are others by now, or that another change is under way.
	ErrMembersChanged = errors.New("the members have changed meanwhile")
)

// change is a change of the members. It was decided on by the leader of a term who
// looked at the members of that moment: carried out later, after another one, it
// might take the majority from those that are left.
type change struct {
	raftpb.ConfChangeV2
	seen  Status
	own   bool   // it takes the vote of the node that proposes it
	after uint64 // index that must be applied before Raft takes it
	tried bool   // and not seen in the log yet
}

// SetMember gives a node of the group a role, or takes it out. Only the leader can,
// and only as long as the members are those of the status by which it was decided.
// A leader never takes its own vote: it hands its duty over, and its successor may.
func (n *Node) SetMember(ctx context.Context, seen Status, id uint64, role Role) error {
	if seen.Leader != n.opt.ID {
		return ErrNotLeader
	}
	kind := map[Role]raftpb.ConfChangeType{Gone: raftpb.ConfChangeRemoveNode, Learner: raftpb.ConfChangeAddLearnerNode, Voter: raftpb.ConfChangeAddNode}[role]
	key := newID()
	c := &change{seen: seen, own: id == n.opt.ID && role != Voter}
	c.Changes = []*raftpb.ConfChangeSingle{{Type: &kind, NodeId: &id}}
	c.Context = binary.LittleEndian.AppendUint64(nil, key)
	_, err := n.await(ctx, &proposal{id: key, change: c})
	return err
}

// isChanging reports whether a change of the members is under way.
func (n *Node) isChanging() bool {
	p, ok := n.pending[n.changing]
	return ok && p.ctx.Err() == nil
}

// attemptChange proposes a change of the members unless it is in the log already.
func (n *Node) attemptChange(p *proposal) {
	n.changing = p.id
	switch now := n.raft.BasicStatus(); {
	case p.handed, p.change.tried: // what becomes of it, the log says
	case now.RaftState != raft.StateLeader || now.GetTerm() != p.change.seen.Term:
		n.finish(p.id, outcome{err: ErrNotLeader})
	case !slices.Equal(p.change.seen.Voters, n.members.GetVoters()) || !slices.Equal(p.change.seen.Learners, n.members.GetLearners()):
		n.finish(p.id, outcome{err: ErrMembersChanged})
	case p.change.own:
		// The others might not know yet that the change is committed when this node
		// falls silent, and would wait for a vote that it withholds: its log is longer.
		n.handOver()
		n.finish(p.id, outcome{err: ErrNotLeader})
	case now.Applied >= p.change.after:
		err := n.raft.ProposeConfChange(&p.change.ConfChangeV2)
		p.change.tried = err == nil
		if err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			n.finish(p.id, outcome{err: fmt.Errorf("consensus: change members: %w", err)})
		}
	}
}

// repeatChange proposes a change again that came too early.
func (n *Node) repeatChange() {
	if p, ok := n.pending[n.changing]; ok {
		n.attemptChange(p)
	}
}

// noteChange looks for a change of this node among new entries of the log. While
// an older change is not applied, Raft puts an empty entry in its place.
func (n *Node) noteChange(entries []*raftpb.Entry) {
	p, ok := n.pending[n.changing]
	if !ok || !p.change.tried || len(entries) == 0 {
		return
	}
	p.change.tried = false
	for _, e := range entries {
		cc := &raftpb.ConfChangeV2{}
		if e.GetType() == raftpb.EntryConfChangeV2 && proto.Unmarshal(e.GetData(), cc) == nil && changeID(cc) == p.id {
			p.handed = true
		}
	}
	p.change.after = entries[len(entries)-1].GetIndex()
}

// applyMembers carries out a change of the members, if e is one, and returns the
// ID of its proposal and who is a member from now on.
func (n *Node) applyMembers(e *raftpb.Entry) (id uint64, members []byte, err error) {
	if e.GetType() == raftpb.EntryNormal {
		return 0, nil, nil
	}
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return 0, nil, fmt.Errorf("log index %d: members: %w", e.GetIndex(), err)
	}
	n.members = n.raft.ApplyConfChange(cc)
	n.window.members = n.members
	n.pulse.rest(n.alone())
	n.log.Info("members changed", "index", e.GetIndex(), "voters", n.members.GetVoters(), "learners", n.members.GetLearners())
	return changeID(cc), encodeMembers(n.members), nil
}

// changeID returns the ID of the proposal of a change, 0 if it has none.
func changeID(cc *raftpb.ConfChangeV2) uint64 {
	if len(cc.GetContext()) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(cc.GetContext())
}

func encodeMembers(cs *raftpb.ConfState) []byte {
	b, err := proto.Marshal(cs)
	if err != nil {
		panic(err) // a message of numbers always encodes
	}
	return b
}
