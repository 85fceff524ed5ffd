package consensus

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"etcpve/cfs/command"
)

// The window keeps the end of the log in RAM, so that what was just written need
// not be read again.
const (
	windowEntries = 4096
	windowBytes   = 4 << 20
)

// window shows Raft the log: its end from RAM, the rest from the storage.
type window struct {
	storage Storage
	applier Applier
	hard    command.HardState
	members *raftpb.ConfState

	first, last uint64 // of the log; first is base+1
	tail        []*raftpb.Entry
	bytes       int
	err         error // why the storage could not be read
}

func newWindow(s Storage, a Applier, hard command.HardState, members *raftpb.ConfState, r command.Recovered) *window {
	w := &window{storage: s, applier: a, hard: hard, members: members}
	w.reset(r)
	return w
}

// reset forgets the tail.
func (w *window) reset(r command.Recovered) {
	w.first, w.last, w.tail, w.bytes = r.Base+1, r.Last, nil, 0
}

// append takes over entries that are on disk.
func (w *window) append(entries []*raftpb.Entry) {
	first := entries[0].GetIndex()
	if len(w.tail) > 0 {
		if start := w.tail[0].GetIndex(); first <= start {
			w.tail, w.bytes = nil, 0
		} else if keep := first - start; keep < uint64(len(w.tail)) {
			for _, e := range w.tail[keep:] {
				w.bytes -= len(e.GetData())
			}
			w.tail = w.tail[:keep:keep]
		}
	}
	w.tail = append(w.tail, entries...)
	w.last = entries[len(entries)-1].GetIndex()
	for _, e := range entries {
		w.bytes += len(e.GetData())
	}
	drop := 0
	for len(w.tail)-drop > windowEntries || w.bytes > windowBytes && drop < len(w.tail)-1 {
		w.bytes -= len(w.tail[drop].GetData())
		drop++
	}
	w.tail = w.tail[drop:]
}

// cached returns the entries from lo on, below hi, if RAM has them all.
func (w *window) cached(lo, hi uint64) ([]*raftpb.Entry, bool) {
	if len(w.tail) == 0 || lo < w.tail[0].GetIndex() {
		return nil, false
	}
	start := w.tail[0].GetIndex()
	return w.tail[lo-start : hi-start : hi-start], true
}

// InitialState implements raft.Storage.
func (w *window) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &raftpb.HardState{Term: &w.hard.Term, Vote: &w.hard.Vote, Commit: &w.hard.Commit}, w.members, nil
}

// Entries implements raft.Storage.
func (w *window) Entries(lo, hi, limit uint64) ([]*raftpb.Entry, error) {
	switch {
	case lo < w.first:
		return nil, raft.ErrCompacted
	case hi > w.last+1:
		return nil, raft.ErrUnavailable
	}
	if list, ok := w.cached(lo, hi); ok {
		size := uint64(0)
		for i, e := range list {
			if size += uint64(len(e.GetData())); i > 0 && size > limit {
				return list[:i:i], nil
			}
		}
		return list, nil
	}
	list, err := w.storage.Entries(lo, hi, min(limit, batchBytes))
	if err != nil {
		return nil, w.explain(lo, err)
	}
	entries := make([]*raftpb.Entry, len(list))
	for i, e := range list {
		kind := raftpb.EntryNormal
		if e.Kind == command.Membership {
			kind = raftpb.EntryConfChangeV2
		}
		entries[i] = &raftpb.Entry{Index: &list[i].Index, Term: &list[i].Term, Type: &kind, Data: e.Data}
	}
	return entries, nil
}

// explain tells an entry that was trimmed meanwhile from one that cannot be read.
func (w *window) explain(index uint64, err error) error {
	if w.first = max(w.first, w.storage.Recovered().Base+1); index < w.first {
		return raft.ErrCompacted
	}
	w.err = err
	return err
}

// Term implements raft.Storage.
func (w *window) Term(index uint64) (uint64, error) {
	switch {
	case index+1 < w.first:
		return 0, raft.ErrCompacted
	case index > w.last:
		return 0, raft.ErrUnavailable
	}
	if list, ok := w.cached(index, index+1); ok {
		return list[0].GetTerm(), nil
	}
	term, err := w.storage.Term(index)
	if err != nil {
		return 0, w.explain(index+1, err)
	}
	return term, nil
}

// LastIndex implements raft.Storage.
func (w *window) LastIndex() (uint64, error) { return w.last, nil }

// FirstIndex implements raft.Storage.
func (w *window) FirstIndex() (uint64, error) { return w.first, nil }

// Snapshot implements raft.Storage.
func (w *window) Snapshot() (*raftpb.Snapshot, error) {
	s, err := w.applier.Snapshot()
	if err != nil {
		w.err = err
		return nil, raft.ErrSnapshotTemporarilyUnavailable // Raft knows no wrapped one
	}
	return &raftpb.Snapshot{Data: s.Tree, Metadata: &raftpb.SnapshotMetadata{Index: &s.Index, Term: &s.Term, ConfState: w.members}}, nil
}
