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
	Votes    uint32        // by the definition; 0: it never votes
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
	// One that is away cannot take over, and the others lose nothing by going on.
	if id, ok := Decider(nodes); ok && slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == id && n.Alive }) {
		for i := range nodes {
			if nodes[i].ID != id {
				nodes[i].Votes = 0
			}
		}
	}
	for _, next := range []func([]Node, int) (Step, bool){leave, enter, vote, replace, yield} {
		if step, ok := next(nodes, most); ok && safe(nodes, step) {
			return step, true
		}
	}
	return Step{}, false
}

// Decider returns the node that has more votes than all others of the definition
// together, if there is one: a majority of the votes is where it is, so it alone
// votes. Votes that are spread in another way cannot be weighed, because every voter
// counts as one: they only say which nodes vote rather than others.
func Decider(nodes []Node) (id uint32, ok bool) {
	most, all := uint64(0), uint64(0)
	for _, n := range nodes {
		if !n.Defined {
			continue
		}
		all += uint64(n.Votes)
		if uint64(n.Votes) > most {
			most, id = uint64(n.Votes), n.ID
		}
	}
	return id, most > 1 && 2*most > all
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
	if count(nodes, func(n Node) bool { return n.Voter && n.Votes > 0 }) >= wanted(nodes, most) {
		return Step{}, false
	}
	return candidate(nodes)
}

// replace finds a successor for a voter that stays dead, or that has fewer votes than
// a listener. The successor votes before the other one stops, so the majority never
// shrinks meanwhile.
func replace(nodes []Node, most int) (Step, bool) {
	next, ok := candidate(nodes)
	replaced := count(nodes, func(n Node) bool { return n.Voter && (gone(n) || ok && n.Votes < votes(nodes, next.ID)) })
	if !ok || replaced == 0 || count(nodes, func(n Node) bool { return n.Voter }) > wanted(nodes, most) {
		return Step{}, false
	}
	return next, true
}

func votes(nodes []Node, id uint32) uint32 {
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
	return nodes[i].Votes
}

// yield takes the vote of one node when too many have it: of those without a
// vote by definition, then of the dead, then of those with the fewest votes, then of
// those alive for the shortest time.
func yield(nodes []Node, most int) (Step, bool) {
	var voting []Node
	for _, n := range nodes {
		if n.Voter {
			voting = append(voting, n)
		}
	}
	forbidden := slices.IndexFunc(voting, func(n Node) bool { return n.Votes == 0 })
	if forbidden < 0 && len(voting) <= wanted(nodes, most) || len(voting) < 2 {
		return Step{}, false
	}
	slices.SortStableFunc(voting, func(a, b Node) int {
		return cmp.Or(order(a.Votes > 0, b.Votes > 0), order(!gone(a), !gone(b)), cmp.Compare(a.Votes, b.Votes), order(a.Alive, b.Alive), cmp.Compare(a.For, b.For), cmp.Compare(b.ID, a.ID))
	})
	return Step{Demote, voting[0].ID}, true
}

// candidate returns the promotion of the listener that deserves it most.
func candidate(nodes []Node) (Step, bool) {
	best := -1
	for i, n := range nodes {
		if !n.Learner || !n.Defined || n.Votes == 0 || !n.Alive || !n.CaughtUp {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(n.Votes, nodes[best].Votes), cmp.Compare(n.For, nodes[best].For)) > 0 {
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
	return Want(count(nodes, func(n Node) bool { return n.Defined && n.Votes > 0 }), most)
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
