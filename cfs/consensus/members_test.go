package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
)

func TestMembersComeVoteListenAndGo(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		id := g.others(l)[1].opt.ID
		for _, step := range []struct {
			role     Role
			voters   int
			learners []uint64
		}{{Learner, 2, []uint64{id}}, {Voter, 3, nil}, {Gone, 2, nil}, {Learner, 2, []uint64{id}}} {
			g.set(id, step.role)
			if s := g.leader().Status(); len(s.Voters) != step.voters || !slices.Equal(s.Learners, step.learners) {
				t.Errorf("role %d: %+v", step.role, s)
			}
		}
		g.mustSave(l, "f")
		g.same(l, g.nodes[id])
	})
}

func TestOnlyWhatTheLeaderHasSeenIsChanged(t *testing.T) {
	inGroup(t, 4, func(g *group) {
		l := g.leader()
		rest := g.others(l)
		ctx := g.within(10 * time.Second)
		if err := rest[0].SetMember(ctx, rest[0].Status(), 4, Learner); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower changes members: %v", err)
		}
		seen, victim := l.Status(), rest[2].opt.ID
		if err := l.SetMember(ctx, seen, victim, Learner); err != nil {
			t.Fatal(err)
		}
		if err := l.SetMember(ctx, seen, rest[0].opt.ID, Learner); !errors.Is(err, ErrMembersChanged) {
			t.Errorf("a change decided on before another one: %v", err)
		}
		seen = l.Status()
		seen.Term--
		if err := l.SetMember(ctx, seen, rest[0].opt.ID, Learner); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a change decided on in another term: %v", err)
		}
	})
}

func TestOneChangeOfTheMembersAtATime(t *testing.T) {
	inGroup(t, 4, func(g *group) {
		l := g.leader()
		rest := g.others(l)
		results := make(chan error, 2)
		seen := l.Status()
		for _, m := range rest[:2] {
			g.running.Go(func() { results <- l.SetMember(g.within(10*time.Second), seen, m.opt.ID, Learner) })
		}
		first, second := <-results, <-results
		if first != nil && second != nil || !errors.Is(errors.Join(first, second), ErrMembersChanged) {
			t.Errorf("%v and %v", first, second)
		}
		if s := l.Status(); len(s.Voters) != 3 {
			t.Errorf("voters are %v", s.Voters)
		}
	})
}

// TestALeaderHandsOverBeforeItLosesItsVote: had it taken its own, the others might
// never learn that it has none.
func TestALeaderHandsOverBeforeItLosesItsVote(t *testing.T) {
	for _, role := range []Role{Learner, Gone} {
		inGroup(t, 3, func(g *group) {
			l := g.leader()
			if err := l.SetMember(g.within(10*time.Second), l.Status(), l.opt.ID, role); !errors.Is(err, ErrNotLeader) {
				t.Errorf("role %d: %v", role, err)
			}
			time.Sleep(TickEvery)
			if now := g.leader(); now == l || len(now.Status().Voters) != 3 {
				t.Errorf("role %d: node %d leads %v", role, now.opt.ID, now.Status().Voters)
			}
			g.set(l.opt.ID, role)
			if s := g.leader().Status(); len(s.Voters) != 2 {
				t.Errorf("role %d: voters are %v", role, s.Voters)
			}
		})
	}
}

func TestALoneVoterKeepsItsVote(t *testing.T) {
	inGroup(t, 1, func(g *group) {
		l := g.leader()
		if err := l.SetMember(g.within(time.Second), l.Status(), 1, Gone); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a lone node leaves itself: %v", err)
		}
		if err := l.SetMember(g.within(time.Second), l.Status(), 1, Voter); err != nil {
			t.Errorf("a lone node confirms itself: %v", err)
		}
		g.mustSave(l, "f")
	})
}

// TestTheLastNodeGoesOnAlone: what is left of a group becomes one of its own, and
// every later run finds it so.
func TestTheLastNodeGoesOnAlone(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		last := g.others(g.leader())[0]
		id, d := last.opt.ID, last.disk
		g.mustSave(last, "kept")
		for _, m := range g.others(nil) {
			g.kill(m.opt.ID)
		}
		for run, alone := range []bool{true, false} {
			node, err := New(Options{ID: id, Storage: d, Applier: d, Transport: wire{g, id}, Alone: alone})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			m := &machine{Node: node, disk: d, stop: stop, ended: make(chan error, 1)}
			g.running.Go(func() { m.ended <- node.Run(ctx) })
			synctest.Wait()
			if s := m.Status(); !s.Quorate || !slices.Equal(s.Voters, []uint64{id}) {
				t.Errorf("run %d: %+v", run, s)
			}
			if alone {
				if err := m.SetMember(g.within(time.Second), m.Status(), id, Voter); err != nil {
					t.Errorf("run %d: %v", run, err)
				}
			}
			g.mustSave(m, fmt.Sprint("run", run))
			stop()
			if err := <-m.ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// encoded is a message as it comes from the network.
func encoded(t testing.TB, m *raftpb.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatNoMemberSendsIsRefused(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		from, to, term := g.others(l)[0].opt.ID, l.opt.ID, l.Status().Term
		change, normal := raftpb.EntryConfChangeV2, raftpb.EntryNormal
		for name, m := range map[string]*raftpb.Message{
			"nothing proposed":  {Type: raftpb.MsgProp.Enum()},
			"unreadable change": {Type: raftpb.MsgProp.Enum(), Entries: []*raftpb.Entry{{Type: &normal, Data: bytes.Repeat([]byte{9}, 50)}}},
			"change of members": {Type: raftpb.MsgProp.Enum(), Entries: []*raftpb.Entry{{Type: &change}}},
			"empty snapshot":    {Type: raftpb.MsgSnap.Enum(), Term: &term},
		} {
			m.From, m.To = &from, &to
			if err := l.Step(context.Background(), encoded(t, m)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := l.Step(context.Background(), []byte("garbage")); err == nil {
			t.Error("garbage was taken")
		}
		hup := &raftpb.Message{Type: raftpb.MsgHup.Enum(), From: &from, To: &to}
		if err := l.Step(context.Background(), encoded(t, hup)); err == nil {
			t.Error("a message that is local to Raft was taken")
		}
		g.mustSave(l, "f")
		if s := l.Status(); len(s.Voters) != 3 {
			t.Errorf("voters are %v", s.Voters)
		}
	})
}

func TestABrokenLogEndsTheNodeWithAReason(t *testing.T) {
	inGroup(t, 1, func(g *group) {
		l := g.leader()
		reason := errors.New("cannot read")
		l.disk.mu.Lock()
		l.disk.fails = reason
		l.disk.mu.Unlock()
		if _, err := g.save(l, "f"); !errors.Is(err, ErrStopped) {
			t.Errorf("save: %v", err)
		}
		if err := <-l.ended; !errors.Is(err, reason) {
			t.Errorf("the node ended with %v", err)
		}
	})
}

// FuzzStep gives a member messages that others might have sent. Whatever they are,
// the node goes on or ends with a reason.
func FuzzStep(f *testing.F) {
	one, term, index, normal := uint64(1), uint64(1), uint64(3), raftpb.EntryNormal
	data := (&command.Command{ID: 5, Op: command.Mkdir, Path: "d"}).Marshal()
	entry := &raftpb.Entry{Term: &term, Index: &index, Type: &normal, Data: data}
	// What unpacks content is made once for the process, and must not be of one bubble.
	large := (&command.Command{ID: 5, Op: command.Write, Path: "f", Data: bytes.Repeat([]byte("x"), 64<<10)}).Marshal()
	if _, err := command.Unmarshal(large); err != nil {
		f.Fatal(err)
	}
	for _, kind := range []raftpb.MessageType{raftpb.MsgApp, raftpb.MsgProp, raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgHeartbeat, raftpb.MsgSnap, raftpb.MsgAppResp, raftpb.MsgTimeoutNow} {
		f.Add(encoded(f, &raftpb.Message{Type: &kind, From: &index, To: &one, Term: &term, Index: &one, LogTerm: &term, Entries: []*raftpb.Entry{entry}}))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		inGroup(t, 1, func(g *group) {
			l := g.leader()
			_ = l.Step(context.Background(), message) // refused or not
			time.Sleep(time.Second)
			select {
			case err := <-l.ended:
				if err == nil {
					t.Error("ended without a reason")
				}
			default:
			}
		})
	})
}
