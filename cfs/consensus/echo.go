package consensus

import "go.etcd.io/raft/v3/raftpb"

// A confirmation tells a leader up to where a node's log is like its own.
type confirmation struct{ to, term, index, tick uint64 }

// isEcho reports whether a message confirms what was confirmed to the same leader in
// this tick already. Raft answers the message that tells of a commit like one that brings
// entries, so a quarter of all messages would tell nobody anything. Once in a tick it is
// sent all the same: the one before may be lost, and a leader that looks for the end of
// this node's log waits for an answer.
func (n *Node) isEcho(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgAppResp || m.GetReject() {
		return false
	}
	before := n.confirmed
	n.confirmed = confirmation{m.GetTo(), m.GetTerm(), m.GetIndex(), n.ticks}
	return n.confirmed == before
}
