// Package voters chooses which nodes of a cluster vote on the log and which
// only listen.
//
// It owns the choice, one step at a time: nodes of the definition that are not
// in the group yet begin as listeners (learners); as many as are wanted vote,
// the ones that have answered for longest first; a voter that stays dead is
// replaced by a listener that is alive and has caught up. It never takes a step
// after which the voters that are alive would be no majority, and it never
// carries a step out.
package voters

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// DefaultMax is how many nodes vote at most unless more are asked for: every
// commit waits for a majority of them.
const DefaultMax = 5

// replaceAfter is how long a voter must have been dead before another node
// takes its vote: longer than a reboot takes, or votes would wander with each.
const replaceAfter = 5 * time.Minute

// A Node is what is known of one node.
type Node struct {
	ID       uint32
	Defined  bool          // in the cluster's definition
	CanVote  bool          // the definition gives it a vote
	Voter    bool          // in the group, and voting
	Learner  bool          // in the group, and listening
	Alive    bool          // answers now
	For      time.Duration // how long it has been alive, or dead
	CaughtUp bool          // has nearly all of the log
}

// Act says what a step does to a node.
type Act uint8

// The acts of a step.
const (
	AddLearner Act = iota + 1
	Promote        // listener to voter
	Demote         // voter to listener
	Remove         // out of the group
)

// A Step is one change of the group.
type Step struct {
	Act Act
	ID  uint32
}

// String returns the step as the log shows it.
func (s Step) String() string {
	return fmt.Sprintf("%s node %d", [...]string{"", "add", "promote", "demote", "remove"}[s.Act], s.ID)
}

// Want is how many of n nodes that could vote should: all up to max, but no even
// number above two, which would survive no more failures than one less.
func Want(n, most int) int {
	want := min(n, most)
	if want > 2 && want%2 == 0 {
		want--
	}
	return want
}

// Plan returns the next step towards the group that nodes should form, and
// whether there is one.
func Plan(nodes []Node, most int) (Step, bool) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	for _, next := range []func([]Node, int) (Step, bool){leave, enter, vote, replace, yield} {
		if step, ok := next(nodes, most); ok && safe(nodes, step) {
			return step, true
		}
	}
	return Step{}, false
}

// leave removes a node that the definition no longer names: listeners first,
// and a voter only after it has become one.
func leave(nodes []Node, _ int) (Step, bool) {
	for _, n := range nodes {
		if !n.Defined && n.Learner {
			return Step{Remove, n.ID}, true
		}
	}
	for _, n := range nodes {
		if !n.Defined && n.Voter {
			return Step{Demote, n.ID}, true
		}
	}
	return Step{}, false
}

// enter adds a node of the definition that is not in the group.
func enter(nodes []Node, _ int) (Step, bool) {
	for _, n := range nodes {
		if n.Defined && !n.Voter && !n.Learner {
			return Step{AddLearner, n.ID}, true
		}
	}
	return Step{}, false
}

// vote lets one more node vote when too few do.
func vote(nodes []Node, most int) (Step, bool) {
	if count(nodes, func(n Node) bool { return n.Voter }) >= wanted(nodes, most) {
		return Step{}, false
	}
	return candidate(nodes)
}

// replace finds a successor for a voter that stays dead. The successor votes
// before the dead one stops, so the majority never shrinks meanwhile.
func replace(nodes []Node, most int) (Step, bool) {
	dead := count(nodes, func(n Node) bool { return n.Voter && gone(n) })
	if dead == 0 || count(nodes, func(n Node) bool { return n.Voter }) > wanted(nodes, most) {
		return Step{}, false
	}
	return candidate(nodes)
}

// yield takes the vote of one node when too many have it: of those without a
// vote by definition, then of the dead, then of those alive for the shortest time.
func yield(nodes []Node, most int) (Step, bool) {
	var voting []Node
	for _, n := range nodes {
		if n.Voter {
			voting = append(voting, n)
		}
	}
	forbidden := slices.IndexFunc(voting, func(n Node) bool { return !n.CanVote })
	if forbidden < 0 && len(voting) <= wanted(nodes, most) || len(voting) < 2 {
		return Step{}, false
	}
	slices.SortStableFunc(voting, func(a, b Node) int {
		return cmp.Or(order(a.CanVote, b.CanVote), order(!gone(a), !gone(b)), order(a.Alive, b.Alive), cmp.Compare(a.For, b.For), cmp.Compare(b.ID, a.ID))
	})
	return Step{Demote, voting[0].ID}, true
}

// candidate returns the promotion of the listener that deserves it most.
func candidate(nodes []Node) (Step, bool) {
	best := -1
	for i, n := range nodes {
		if n.Learner && n.Defined && n.CanVote && n.Alive && n.CaughtUp && (best < 0 || n.For > nodes[best].For) {
			best = i
		}
	}
	if best < 0 {
		return Step{}, false
	}
	return Step{Promote, nodes[best].ID}, true
}

// wanted is how many nodes should vote.
func wanted(nodes []Node, most int) int {
	return Want(count(nodes, func(n Node) bool { return n.Defined && n.CanVote }), most)
}

// safe reports whether the voters that are alive are a majority before and after
// the step.
func safe(nodes []Node, s Step) bool {
	majority := func(is func(Node) bool) bool {
		all := count(nodes, is)
		return all > 0 && 2*count(nodes, func(n Node) bool { return is(n) && n.Alive }) > all
	}
	now := func(n Node) bool { return n.Voter }
	after := func(n Node) bool {
		if n.ID == s.ID {
			return s.Act == Promote
		}
		return n.Voter
	}
	return majority(now) && majority(after)
}

func gone(n Node) bool { return !n.Alive && n.For >= replaceAfter }

func count(nodes []Node, is func(Node) bool) (n int) {
	for _, node := range nodes {
		if is(node) {
			n++
		}
	}
	return n
}

// order puts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
