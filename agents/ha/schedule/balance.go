package schedule

import (
	"math"
	"slices"
)

// A Bundle is a number of services that move together. All nodes are online
// ones, and the targets others than where it is.
type Bundle struct {
	Services []string // the first one leads
	Node     string
	Targets  []string // in order of preference among equals
}

// A Move takes a bundle to another node.
type Move struct {
	Leader string
	Target string
	Before float64 // imbalance
	After  float64
}

// Imbalance returns the standard deviation of the nodes' loads divided by
// their mean. Basic counting knows none.
func (u *Usage) Imbalance() float64 {
	if u.mode == Basic {
		return 0
	}
	return imbalance(u.loads())
}

// BestMove returns the move that leads to the least imbalance, or with topsis
// the one with the best rating.
func (u *Usage) BestMove(bundles []Bundle, topsis bool) (best Move, found bool) {
	if u.mode == Basic {
		return Move{}, false
	}
	var (
		moves        []Move
		alternatives []figures
		loads        = u.loads()
		before       = imbalance(loads)
	)
	for _, b := range bundles {
		from := slices.Index(u.names, b.Node)
		for _, target := range b.Targets {
			to := slices.Index(u.names, target)
			was := [2]load{loads[from], loads[to]}
			loads[from], loads[to] = u.without(b, b.Node), u.with(b, target)
			moves = append(moves, Move{b.Services[0], target, before, imbalance(loads)})
			if topsis {
				alternatives = append(alternatives, describe(loads))
			}
			loads[from], loads[to] = was[0], was[1]
		}
	}
	var ranks []float64
	if topsis {
		ranks = rate(alternatives)
	} else {
		for _, m := range moves {
			ranks = append(ranks, -cut(m.After))
		}
	}
	at := -1
	for i, rank := range ranks {
		if at < 0 || rank > ranks[at] {
			at = i
		}
	}
	if at < 0 {
		return Move{}, false
	}
	return moves[at], true
}

// balanced returns what counts for balancing: nothing that is still coming.
func (u *Usage) balanced(n *count) amount {
	if u.mode == Dynamic {
		return n.real
	}
	return n.limits
}

func (u *Usage) loads() []load {
	loads := make([]load, len(u.names))
	for i, name := range u.names {
		n := u.nodes[name]
		loads[i] = u.balanced(n).of(n.Node)
	}
	return loads
}

// without is the load of a node that a bundle has left.
func (u *Usage) without(b Bundle, node string) load {
	n := u.nodes[node]
	a := u.balanced(n)
	a.add(u.sum(b, n.Node), -1)
	a.cpu, a.mem = max(a.cpu, 0), max(a.mem, 0)
	return a.of(n.Node)
}

// with is the load of a node that a bundle has come to.
func (u *Usage) with(b Bundle, node string) load {
	n := u.nodes[node]
	a := u.balanced(n)
	a.add(u.sum(b, n.Node), 1)
	return a.of(n.Node)
}

// sum returns what a bundle uses of a node.
func (u *Usage) sum(b Bundle, n Node) (sum amount) {
	for _, sid := range b.Services {
		s := u.services[sid]
		if u.mode == Dynamic {
			sum.add(amountOf(s.CPU, s.Mem), 1)
		} else {
			sum.add(s.limits(n), 1)
		}
	}
	return sum
}

func imbalance(loads []load) float64 {
	var sum, squares float64
	for _, l := range loads {
		sum += (l.cpu + l.mem) / 2
	}
	if sum == 0 {
		return 0
	}
	n := float64(len(loads))
	mean := sum / n
	for _, l := range loads {
		d := (l.cpu+l.mem)/2 - mean
		squares += d * d
	}
	return math.Sqrt(squares/n) / mean
}

// cut drops everything after 15 decimals, which is noise of the arithmetic.
func cut(v float64) float64 { return math.Trunc(v*1e15) / 1e15 }
