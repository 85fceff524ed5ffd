package consensus

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// handOverWithin bounds how long a leader that stops waits for its successor.
const handOverWithin = 300 * time.Millisecond

// handOver asks the voter that has most of the log to lead, so that a clean stop
// costs no election. It reports whether there is something to wait for.
func (n *Node) handOver() bool {
	if !n.leads() {
		return false
	}
	successor, match := raft.None, uint64(0)
	for id, p := range n.raft.Status().Progress {
		// Raft's own note of who is active is empty just after each look at it.
		tick, heard := n.heard[id]
		answers := heard && n.ticks-tick < electionTicks
		better := p.Match > match || p.Match == match && id < successor
		if id != n.opt.ID && !p.IsLearner && answers && (successor == raft.None || better) {
			successor, match = id, p.Match
		}
	}
	if successor == raft.None {
		return false
	}
	n.log.Info("leadership handed over", "node", successor)
	n.raft.TransferLeader(successor)
	return true
}

// succeeded reports whether another node leads. The vote for it is then counted.
func (n *Node) succeeded() bool {
	lead := n.raft.BasicStatus().Lead
	return lead != raft.None && lead != n.opt.ID
}

// A snapshot of which nothing is heard for this long was lost on its way: Raft
// sends nothing else to its receiver until it knows.
const (
	snapshotTicks       = 30
	snapshotTicksPerMiB = 10
)

// expectSnapshot notes until when the receiver of a message with a snapshot has to
// answer.
func (n *Node) expectSnapshot(m *raftpb.Message, size int) {
	if m.GetType() == raftpb.MsgSnap {
		n.snapshots[m.GetTo()] = n.ticks + snapshotTicks + uint64(size)*snapshotTicksPerMiB>>20
	}
}

// missSnapshots gives up snapshots that must have been lost. Raft ignores it for
// a node that has answered.
func (n *Node) missSnapshots() {
	for id, until := range n.snapshots {
		if n.ticks >= until {
			delete(n.snapshots, id)
			n.raft.ReportSnapshot(id, raft.SnapshotFailure)
		}
	}
}
