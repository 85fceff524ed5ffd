package consensus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

func TestProposalsThatWaitTogetherShareOneSync(t *testing.T) {
	for _, size := range []int{1, 3} {
		inGroup(t, size, func(g *group) {
			l := g.leader()
			l.disk.slowDown(10 * time.Millisecond)
			before, begun := l.disk.count(), time.Now()
			var answers []<-chan result
			for i := range 200 {
				answers = append(answers, g.propose(l, &command.Command{Op: command.Mkdir, Path: fmt.Sprint("d", i)}))
			}
			for i, a := range answers {
				if r := <-a; r.err != nil || r.Err != nil || !has(l, fmt.Sprint("d", i)) {
					t.Errorf("change %d: %v, %v", i, r.Err, r.err)
				}
			}
			// The first may be alone, as the others come while it is written.
			if syncs := l.disk.count() - before; syncs > 2 {
				t.Errorf("%d nodes: %d syncs for 200 changes", size, syncs)
			}
			if took := time.Since(begun); took > 50*time.Millisecond {
				t.Errorf("%d nodes: 200 changes took %v", size, took)
			}
		})
	}
}

func TestAFollowerHandsOnAndReadsItsOwnWrite(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		for _, m := range g.others(g.leader()) {
			took, err := g.save(m, "f")
			if err != nil || !has(m, "f") {
				t.Errorf("save at node %d: %v, shown there: %v", m.opt.ID, err, has(m, "f"))
			}
			if took > 5*delay {
				t.Errorf("node %d: a save took %v, a message %v", m.opt.ID, took, delay)
			}
		}
	})
}

func TestARefusalIsAResult(t *testing.T) {
	inGroup(t, 1, func(g *group) {
		l := g.leader()
		for c, want := range map[*command.Command]error{
			{Op: command.Remove, Path: "missing"}:                                      tree.ErrNotExist,
			{Op: command.Write, Path: "f", Data: make([]byte, layout.MaxFile+1)}:       tree.ErrTooBig,
			{Op: command.Mkdir, Path: string(make([]byte, 5000))}:                      tree.ErrInvalid,
			{Op: command.Rename, Path: "f", To: string(make([]byte, command.MaxSize))}: tree.ErrInvalid,
			{Op: command.Write, Path: "no/such/dir", Data: []byte("x")}:                tree.ErrNotExist,
		} {
			if r := <-g.propose(l, c); r.err != nil || !errors.Is(r.Err, want) {
				t.Errorf("%v: %v and %v, want %v", c.Op, r.Err, r.err, want)
			}
		}
		g.mustSave(l, "still here")
	})
}

func TestAFullDiskRefusesContentAlone(t *testing.T) {
	inGroup(t, 1, func(g *group) {
		l := g.leader()
		l.disk.mu.Lock()
		l.disk.full = tree.ErrNoSpace
		l.disk.mu.Unlock()
		if _, err := g.save(l, "f"); !errors.Is(err, tree.ErrNoSpace) {
			t.Errorf("save on a full disk: %v", err)
		}
		if r := <-g.propose(l, &command.Command{Op: command.Mkdir, Path: "d"}); r.err != nil || r.Err != nil {
			t.Errorf("directory on a full disk: %v, %v", r.Err, r.err)
		}
	})
}

// TestALostLeaderCostsNoChange kills the leader at many moments of a change that a
// follower has handed on. The change creates a file that must not exist, so it is
// refused if it counts twice.
func TestALostLeaderCostsNoChange(t *testing.T) {
	twice := 0
	for moment := range 12 {
		inGroup(t, 3, func(g *group) {
			l := g.leader()
			rest := g.others(l)
			for i, m := range rest {
				m.disk.slowDown(time.Duration(i) * delay)
			}
			const id = 77
			change := g.propose(rest[0], &command.Command{ID: id, Op: command.Write, Path: "f", Exclusive: true, Data: []byte("x")})
			time.Sleep(time.Duration(moment) * delay / 2)
			g.kill(l.opt.ID)
			r := <-change
			if r.err != nil || r.Err != nil || r.took > 5*time.Second {
				t.Errorf("moment %d: %v, %v after %v", moment, r.Err, r.err, r.took)
			}
			g.mustSave(rest[1], "later")
			g.same(rest...)
			for _, m := range rest {
				if !has(m, "f") {
					t.Errorf("moment %d: node %d lacks what was acknowledged", moment, m.opt.ID)
				}
			}
			if rest[0].disk.seen[id] > 1 {
				twice++
			}
		})
	}
	if twice == 0 {
		t.Error("no moment at which the change came into the log twice")
	}
}

func TestWithoutQuorumAChangeEndsWithinASecond(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		rest := g.others(l)
		for _, m := range rest {
			g.isolate(m.opt.ID, true)
		}
		taken, handed := g.propose(l, &command.Command{Op: command.Mkdir, Path: "a"}), g.propose(rest[0], &command.Command{Op: command.Mkdir, Path: "b"})
		for who, a := range map[string]<-chan result{"leader": taken, "follower": handed} {
			r := <-a
			if !errors.Is(r.err, ErrUncertain) || r.took > time.Second+TickEvery {
				t.Errorf("%s: %v after %v", who, r.err, r.took)
			}
		}
		time.Sleep(2 * TickEvery) // the last of them has noticed
		for _, m := range []*machine{l, rest[0], rest[1]} {
			if took, err := g.save(m, "c"); !errors.Is(err, ErrNoQuorum) || errors.Is(err, ErrUncertain) || took > 0 {
				t.Errorf("node %d without quorum: %v after %v", m.opt.ID, err, took)
			}
		}
		for _, m := range rest {
			g.isolate(m.opt.ID, false)
		}
		g.mustSave(g.leader(), "d")
		g.same(l, rest[0], rest[1])
		if has(l, "c") {
			t.Error("a change that was refused has happened")
		}
	})
}

func TestALeaderNoticesThatItsMajorityIsBack(t *testing.T) {
	inGroup(t, 1, func(g *group) {
		n := g.leader().Node
		synctest.Wait() // the loop of the node rests, and nothing wakes it: it is alone
		n.members = &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
		n.ticks += quorumTicks
		if n.listen(); n.Quorate() {
			t.Error("quorate although nobody was heard")
		}
		n.heard[2] = n.ticks
		if n.listen(); !n.Quorate() {
			t.Error("not quorate although a majority was heard")
		}
	})
}

func TestACleanStopHandsOver(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		l := g.leader()
		rest := g.others(l)
		l.stop()
		if err := <-l.ended; err != nil {
			t.Error(err)
		}
		if took, err := g.save(rest[0], "f"); err != nil || took > 50*time.Millisecond {
			t.Errorf("save after a clean stop: %v after %v", err, took)
		}
	})
}

func TestAFarBehindNodeGetsTheTree(t *testing.T) {
	for _, lost := range []int{0, 2} {
		inGroup(t, 3, func(g *group) {
			l := g.leader()
			behind := g.others(l)[0]
			g.kill(behind.opt.ID)
			for i := range 20 {
				g.mustSave(l, fmt.Sprint("f", i))
			}
			for _, m := range g.others(behind) {
				m.disk.trim()
			}
			g.hamper(func(m *raftpb.Message) bool {
				if m.GetType() == raftpb.MsgSnap && lost > 0 {
					lost--
					return true
				}
				return false
			}, nil)
			g.isolate(behind.opt.ID, false)
			again := g.start(behind.opt.ID, behind.disk, true)
			g.same(l, again)
			if again.disk.installs == 0 {
				t.Error("the tree was not sent")
			}
			g.mustSave(again, "after")
		})
	}
}

func TestASlowNodeDelaysNobody(t *testing.T) {
	for name, hamper := range map[string]func(g *group, id uint64){
		"disk": func(g *group, id uint64) { g.nodes[id].disk.slowDown(3 * time.Second) },
		"network": func(g *group, id uint64) {
			g.hamper(nil, func(m *raftpb.Message) time.Duration {
				if m.GetTo() == id {
					return 2 * time.Second
				}
				return 0
			})
		},
		"gone": func(g *group, id uint64) { g.kill(id) },
		"deaf": func(g *group, id uint64) { g.hamper(func(m *raftpb.Message) bool { return m.GetTo() == id }, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inGroup(t, 3, func(g *group) {
				l := g.leader()
				rest := g.others(l)
				hamper(g, rest[0].opt.ID)
				for i := range 100 {
					at := []*machine{l, rest[1]}[i%2]
					if took, err := g.save(at, fmt.Sprint("f", i)); err != nil || took > 10*delay {
						t.Fatalf("save %d at node %d: %v after %v", i, at.opt.ID, err, took)
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		})
	}
}

// TestAThirdVoteKeepsTwoNodesGoing: the third node of a small cluster may be one
// that nobody works on.
func TestAThirdVoteKeepsTwoNodesGoing(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		g.kill(g.leader().opt.ID)
		g.mustSave(g.leader(), "f")
	})
}

func TestAnAnswerOutlivesItsNode(t *testing.T) {
	p := &proposal{done: make(chan outcome, 1)}
	if _, err := p.outcomeOr(ErrStopped); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	p.done <- outcome{result: tree.Result{Index: 7}}
	if r, err := p.outcomeOr(context.Canceled); err != nil || r.Index != 7 {
		t.Error(r, err)
	}
}
