package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestANodeThatTheLeaderDoesNotReachIsFedByOthers(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		teller, deaf := g.others(l)[0], g.others(l)[1]
		g.hamper(func(m *raftpb.Message) bool { return m.GetTo() == deaf.opt.ID && m.GetFrom() == l.opt.ID }, nil)
		known := deaf.Status().Commit
		for i := range 10 {
			g.mustSave(l, fmt.Sprint("f", i))
		}
		time.Sleep(2 * TickEvery) // the teller knows what is committed
		ctx := g.within(time.Minute)
		bundle, err := teller.Committed(ctx, known)
		if err != nil || bundle == nil {
			t.Fatal(bundle, err)
		}
		for range 2 { // once more changes nothing
			if err := deaf.Feed(ctx, bundle); err != nil {
				t.Error(err)
			}
		}
		if !has(deaf, "f9") {
			t.Error("what was fed is not there")
		}
		time.Sleep(2 * time.Second)
		if err := deaf.Feed(ctx, bundle); deaf.Quorate() {
			t.Errorf("what others tell makes a node quorate: %v", err)
		}
		if bundle, err := teller.Committed(ctx, teller.Status().Commit); bundle != nil || err != nil {
			t.Errorf("there is nothing more to tell: %x, %v", bundle, err)
		}
	})
}

func TestWhatContradictsTheLogIsNotTaken(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		g.mustSave(l, "f")
		m := g.others(l)[0]
		time.Sleep(2 * TickEvery)
		ctx, known := g.within(time.Minute), m.Status().Commit-1
		bundle, err := l.Committed(ctx, known)
		if err != nil {
			t.Fatal(err)
		}
		for name, twist := range map[string]func(*raftpb.Message){
			"another entry":    func(m *raftpb.Message) { *m.Entries[0].Term-- },
			"another leader":   func(b *raftpb.Message) { *b.From = m.opt.ID },
			"an older term":    func(m *raftpb.Message) { *m.Term-- },
			"a gap":            func(m *raftpb.Message) { *m.Index += 5 },
			"more than it has": func(m *raftpb.Message) { *m.Commit++ },
			"a heartbeat":      func(m *raftpb.Message) { m.Type = raftpb.MsgHeartbeat.Enum() },
		} {
			twisted := &raftpb.Message{}
			if err := proto.Unmarshal(bytes.Clone(bundle), twisted); err != nil {
				t.Fatal(err)
			}
			twist(twisted)
			if err := m.Feed(ctx, encoded(t, twisted)); !errors.Is(err, errRelay) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := m.StepFrom(ctx, 9, bundle); err == nil {
			t.Error("a member spoke for another")
		}
		g.mustSave(m, "after")
	})
}
