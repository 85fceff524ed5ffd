package consensus

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// relayBytes bounds what one answer of Committed carries, but for a single entry.
const relayBytes = 1 << 20

// errRelay says that entries cannot be passed on, or taken.
var errRelay = errors.New("entries cannot be relayed")

// Committed returns entries after an index that are committed, in the form that
// Feed takes; nil if this node knows of none. Any member can tell them, so that
// one which misses them need not hear the leader: they are what the leader whom
// this node follows has sent, or would send.
func (n *Node) Committed(ctx context.Context, after uint64) (bundle []byte, err error) {
	e := n.inLoop(ctx, func() error {
		bundle, err = n.committed(after)
		return nil
	})
	return bundle, errors.Join(e, err)
}

func (n *Node) committed(after uint64) ([]byte, error) {
	b := n.raft.BasicStatus()
	commit, lead, term := b.GetCommit(), b.Lead, b.GetTerm()
	if after >= commit {
		return nil, nil
	}
	if lead == raft.None {
		return nil, fmt.Errorf("%w: no leader is known", errRelay)
	}
	before, err := n.window.Term(after)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", errRelay, after, err)
	}
	entries, err := n.window.Entries(after+1, commit+1, relayBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", errRelay, after+1, err)
	}
	kind, last := raftpb.MsgApp, entries[len(entries)-1].GetIndex()
	return proto.Marshal(&raftpb.Message{Type: &kind, From: &lead, Term: &term, Index: &after, LogTerm: &before, Entries: entries, Commit: &last})
}

// Feed takes what another member's Committed returned. It is no sign of a
// majority: this node can write again only when it hears the leader by itself.
func (n *Node) Feed(ctx context.Context, bundle []byte) error {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(bundle, m); err != nil {
		return fmt.Errorf("%w: %w", errRelay, err)
	}
	var refused error
	err := n.inLoop(ctx, func() error {
		if refused = n.acceptable(m); refused != nil {
			return nil
		}
		to, silent := n.opt.ID, n.silent
		m.To = &to
		refused = n.raft.Step(m)
		for n.raft.HasReady() {
			if err := n.handle(n.raft.Ready()); err != nil {
				return err
			}
		}
		n.silent = max(n.silent, silent)
		n.publishStatus(n.status.Load().Applied)
		return nil
	})
	return errors.Join(err, refused)
}

// acceptable refuses a bundle that the leader it names could not have sent here.
func (n *Node) acceptable(m *raftpb.Message) error {
	b := n.raft.BasicStatus()
	last := m.GetIndex() + uint64(len(m.Entries))
	switch {
	case m.GetType() != raftpb.MsgApp || m.GetFrom() == raft.None || m.GetFrom() == n.opt.ID || m.GetCommit() != last:
		return fmt.Errorf("%w: malformed", errRelay)
	case m.GetTerm() < b.GetTerm() || m.GetTerm() == b.GetTerm() && b.Lead != raft.None && b.Lead != m.GetFrom():
		return fmt.Errorf("%w: of another term", errRelay)
	case m.GetIndex() > b.GetCommit():
		return fmt.Errorf("%w: after entry %d, this node knows %d", errRelay, m.GetIndex(), b.GetCommit())
	}
	for i, e := range m.Entries {
		if e.GetIndex() != m.GetIndex()+uint64(i)+1 || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("%w: malformed entries", errRelay)
		}
		if e.GetIndex() > b.GetCommit() {
			continue
		}
		if term, err := n.window.Term(e.GetIndex()); err != nil || term != e.GetTerm() {
			return fmt.Errorf("%w: entry %d is another one here", errRelay, e.GetIndex())
		}
	}
	if term, err := n.window.Term(m.GetIndex()); err != nil || term != m.GetLogTerm() {
		return fmt.Errorf("%w: entry %d is of another term here", errRelay, m.GetIndex())
	}
	return nil
}

// StepFrom takes a message of the member with the given id, which must be the one
// that the message names: nobody speaks for another.
func (n *Node) StepFrom(ctx context.Context, from uint64, message []byte) error {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(message, m); err != nil {
		return fmt.Errorf("consensus: message: %w", err)
	}
	if m.GetFrom() != from || m.GetTo() != n.opt.ID {
		return fmt.Errorf("consensus: message of node %d to %d came from %d", m.GetFrom(), m.GetTo(), from)
	}
	return n.take(ctx, m)
}

// inLoop has the goroutine of Run do something. An error of it ends Run.
func (n *Node) inLoop(ctx context.Context, do func() error) error {
	done := make(chan struct{})
	select {
	case n.calls <- func() error { defer close(done); return do() }:
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stopped:
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-n.stopped:
		return ErrStopped
	}
}
