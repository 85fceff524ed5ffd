package consensus

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func TestAConfirmationIsRepeatedOnceInATick(t *testing.T) {
	n := &Node{ticks: 7}
	confirm := func(to, term, index uint64) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), To: &to, Term: &term, Index: &index}
	}
	refuse := confirm(1, 2, 10)
	refuse.Reject = new(bool)
	*refuse.Reject = true
	for i, c := range []struct {
		m     *raftpb.Message
		ticks uint64 // that pass before
		echo  bool
	}{
		{confirm(1, 2, 10), 0, false},
		{confirm(1, 2, 10), 0, true},
		{confirm(1, 2, 10), 1, false}, // in case that the first was lost
		{confirm(1, 2, 10), 0, true},
		{confirm(1, 2, 11), 0, false},
		{confirm(1, 2, 10), 0, false}, // a leader that went back hears it
		{confirm(1, 3, 10), 0, false},
		{confirm(3, 3, 10), 0, false},
		{refuse, 0, false},
		{refuse, 0, false},
		{&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum()}, 0, false},
		{confirm(3, 3, 10), 0, true},
	} {
		n.ticks += c.ticks
		if got := n.isEcho(c.m); got != c.echo {
			t.Errorf("message %d: an echo: %v", i, got)
		}
	}
}
