package voters

import (
	"math/rand/v2"
	"testing"
	"time"
)

// group makes nodes from one letter each: V voter, L listener, N new; small
// letters are dead. A digit after it is for how many minutes (default 60).
func group(text string) (nodes []Node) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		n := Node{ID: uint32(len(nodes) + 1), Defined: true, Votes: 1, CaughtUp: true, For: time.Hour}
		n.Alive = c < 'a'
		switch c &^ 0x20 {
		case 'V':
			n.Voter = true
		case 'L':
			n.Learner = true
		}
		if i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9' {
			i++
			n.For = time.Duration(text[i]-'0') * time.Minute
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name, nodes string
		change      func([]Node)
		want        string
	}{
		{"a lone node is content", "V", nil, ""},
		{"a new node listens first", "VN", nil, "add node 2"},
		{"two nodes vote both", "VL", nil, "promote node 2"},
		{"a dead listener does not vote", "Vl", nil, ""},
		{"a listener that lags does not vote", "VL", func(n []Node) { n[1].CaughtUp = false }, ""},
		{"the third vote of three", "VVL", nil, "promote node 3"},
		{"four nodes have three votes", "VVVL", nil, ""},
		{"stable nodes vote first", "VVL1L9L5", nil, "promote node 4"},
		{"five of eight vote", "VVVVVLLL", nil, ""},
		{"a reboot changes nothing", "VVVv1vL", func(n []Node) { n[4].For = time.Minute }, ""},
		{"a dead voter is replaced", "VVvL", nil, "promote node 4"},
		{"then it yields", "VVvV", nil, "demote node 3"},
		{"nobody can replace it", "VVv", nil, ""},
		{"without a majority nothing moves", "VvvL", nil, ""},
		{"a removed listener goes", "VVVL", func(n []Node) { n[3].Defined = false }, "remove node 4"},
		{"a removed voter listens first", "VVVV", func(n []Node) { n[3].Defined = false }, "demote node 4"},
		{"a removed dead voter too", "VVv", func(n []Node) { n[2].Defined = false }, "demote node 3"},
		{"removal never loses the majority", "Vv", func(n []Node) { n[1].Defined = false }, ""},
		{"no vote by definition", "VL", func(n []Node) { n[1].Votes = 0 }, ""},
		{"a vote taken by definition", "VVV", func(n []Node) { n[1].Votes = 0 }, "demote node 2"},
		{"the decider of two votes alone", "VV", func(n []Node) { n[0].Votes = 2 }, "demote node 2"},
		{"the decider of two votes before the other stops", "VL", func(n []Node) { n[1].Votes = 2 }, "promote node 2"},
		{"a decider that is away changes nothing", "VVVVv", func(n []Node) { n[4].Votes = 9 }, ""},
		{"half of the votes decide nothing", "VVV", func(n []Node) { n[0].Votes = 2 }, ""},
		{"more votes go first", "VVL9L", func(n []Node) { n[3].For, n[3].Votes = time.Minute, 2 }, "promote node 4"},
		{"more votes take the place of fewer", "VVVL", func(n []Node) { n[3].Votes = 2 }, "promote node 4"},
		{"and the fewest yield", "VVVV", func(n []Node) { n[0].Votes, n[1].Votes, n[3].Votes = 2, 2, 2 }, "demote node 3"},
		{"one of two is enough for a third", "VVL", func(n []Node) { n[2].Alive = false }, ""},
	} {
		nodes := group(c.nodes)
		if c.change != nil {
			c.change(nodes)
		}
		got := ""
		if step, ok := Plan(nodes, DefaultMax); ok {
			got = step.String()
		}
		if got != c.want {
			t.Errorf("%s: %s: got %q, want %q", c.name, c.nodes, got, c.want)
		}
	}
}

func TestWant(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 6: 5, 50: 5} {
		if got := Want(n, DefaultMax); got != want {
			t.Errorf("Want(%d) = %d, want %d", n, got, want)
		}
	}
	if got := Want(8, 7); got != 7 {
		t.Errorf("Want(8, 7) = %d", got)
	}
}

// TestPlanSettles takes random clusters step by step: the plan always ends, and
// no step leaves the living without a majority that they had.
func TestPlanSettles(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		nodes := make([]Node, 1+r.IntN(9))
		for i := range nodes {
			nodes[i] = Node{ID: uint32(i + 1), Defined: r.IntN(5) > 0, Votes: []uint32{0, 1, 1, 1, 1, 1, 2, 3, 9}[r.IntN(9)], Alive: r.IntN(4) > 0,
				For: time.Duration(r.IntN(20)) * time.Minute, CaughtUp: r.IntN(4) > 0}
			switch r.IntN(3) {
			case 0:
				nodes[i].Voter = true
			case 1:
				nodes[i].Learner = true
			}
		}
		steps := 0
		for step, ok := Plan(nodes, DefaultMax); ok; step, ok = Plan(nodes, DefaultMax) {
			if steps++; steps > 5*len(nodes) {
				t.Fatalf("seed %d: no end: %+v", seed, nodes)
			}
			apply(nodes, step)
			if all := count(nodes, func(n Node) bool { return n.Voter }); 2*count(nodes, func(n Node) bool { return n.Voter && n.Alive }) <= all {
				t.Fatalf("seed %d: %s lost the majority: %+v", seed, step, nodes)
			}
		}
	}
}

func apply(nodes []Node, s Step) {
	n := &nodes[s.ID-1]
	n.Voter = s.Act == Promote
	n.Learner = s.Act == AddLearner || s.Act == Demote
	n.Defined = n.Defined && s.Act != Remove
}
