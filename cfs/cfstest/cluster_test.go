package cfstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"etcpve/cfs/consensus"
	"etcpve/cfs/database"
)

// three starts a group of three voters, the first of which has content already.
func three(t *testing.T) (w *Network, nodes []*Node) {
	w = NewNetwork()
	dir := t.TempDir()
	for id := uint64(1); id <= 3; id++ {
		n, err := w.Start(context.WithoutCancel(t.Context()), dir, id, database.Options{}, id > 1)
		must(t, err)
		nodes = append(nodes, n)
		t.Cleanup(func() { must(t, n.Stop()) })
	}
	must(t, nodes[0].Save(t.Context(), "before", []byte("the others came")))
	for _, role := range []consensus.Role{consensus.Learner, consensus.Voter} {
		for id := uint64(2); id <= 3; id++ {
			setMember(t, nodes, id, role)
		}
	}
	together(t, nodes)
	return w, nodes
}

// setMember lets whoever leads change the members.
func setMember(t *testing.T, nodes []*Node, id uint64, role consensus.Role) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	for {
		err := consensus.ErrNotLeader
		for _, n := range nodes {
			if s := n.Consensus.Status(); s.Leader == s.ID {
				err = n.Consensus.SetMember(ctx, s, id, role)
			}
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("node %d: %v", id, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// together waits until all nodes have applied the same and compares their trees.
func together(t *testing.T, nodes []*Node) {
	t.Helper()
	last := uint64(0)
	for _, n := range nodes {
		last = max(last, n.Tree.Index())
	}
	for _, n := range nodes {
		must(t, n.WaitApplied(within(t, time.Minute), last))
	}
	want := content(nodes[0])
	for i, n := range nodes[1:] {
		if content(n) != want {
			t.Errorf("node %d has another tree than node 1", i+2)
		}
	}
}

// content is the state of a node but for the index, which a new leader moves.
func content(n *Node) string {
	s := n.Tree.State()
	s.Index = 0
	return string(s.Marshal())
}

func TestMembersCatchUpAndWriteEverywhere(t *testing.T) {
	_, nodes := three(t)
	var writers sync.WaitGroup
	for i, n := range nodes {
		if e, ok := n.Tree.Lookup("before"); !ok || len(e.Data) == 0 {
			t.Errorf("node %d lacks what was there before it", i+1)
		}
		writers.Go(func() {
			for k := range 50 {
				path := fmt.Sprintf("n%d-%d", i, k)
				persist(t, n, path)
				if _, ok := n.Tree.Lookup(path); !ok {
					t.Errorf("node %d does not read its own write", i+1)
				}
			}
		})
	}
	writers.Wait()
	together(t, nodes)
}

// persist saves as a person would while a busy machine lets nodes miss each other:
// again and again. How long an election takes is measured under virtual time.
func persist(t *testing.T, n *Node, path string) {
	t.Helper()
	for ctx := within(t, time.Minute); ; time.Sleep(time.Millisecond) {
		err := n.Save(ctx, path, []byte("x"))
		if err == nil {
			return
		}
		if !errors.Is(err, consensus.ErrNoQuorum) || ctx.Err() != nil {
			t.Error(err)
			return
		}
	}
}

func TestALostLeaderIsReplacedAndNothingAcknowledgedIsLost(t *testing.T) {
	w, nodes := three(t)
	leader := nodes[0].Consensus.Status().Leader
	var rest []*Node
	for i, n := range nodes {
		if uint64(i+1) != leader {
			rest = append(rest, n)
		}
	}
	for k := range 300 {
		persist(t, rest[0], fmt.Sprint("k", k))
		if k == 100 {
			w.Cut(leader, true)
		}
	}
	cutOff := nodes[leader-1]
	for begun := time.Now(); cutOff.Consensus.Quorate(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("a leader without followers still believes in its quorum")
		}
	}
	if err := cutOff.Save(t.Context(), "lost", nil); !errors.Is(err, consensus.ErrNoQuorum) {
		t.Errorf("save without quorum: %v", err)
	}
	w.Cut(leader, false)
	persist(t, rest[0], "healed")
	together(t, []*Node{rest[0], rest[1], cutOff})
	for k := range 300 {
		if _, ok := cutOff.Tree.Lookup(fmt.Sprint("k", k)); !ok {
			t.Errorf("save %d is lost", k)
		}
	}
}
