// Package schedule measures how loaded the nodes of a cluster are and how
// loaded they would be.
//
// It owns the three ways to count (basic, static, dynamic), the score of a node
// for one more service, and the search for a move that evens out the load. It
// is arithmetic: it knows no rules and no states, and moves nothing.
package schedule

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// A Mode is a way to count.
type Mode string

// The modes: number of services; configured limits; measured use.
const (
	Basic   Mode = "basic"
	Static  Mode = "static"
	Dynamic Mode = "dynamic"
)

// A Node is what a node has.
type Node struct {
	Cores float64
	Mem   int64 // bytes
}

// defaultNode is assumed in dynamic mode where a node's figures are missing.
var defaultNode = Node{Cores: 24, Mem: 131072 << 20}

// A Service is what a service may use and what it does use.
type Service struct {
	MaxCPU float64 // cores; 0: all the node has
	MaxMem int64   // bytes
	CPU    float64
	Mem    int64
	On     string // the node it really runs on, "" if none
}

// A Use says on which nodes a service counts.
type Use struct {
	Node   string
	Target string
	Coming bool // expected on Node, but not seen running yet
}

// Usage counts services on the online nodes.
type Usage struct {
	mode     Mode
	names    []string // in order
	nodes    map[string]*count
	services map[string]Service
	uses     map[string]Use
}

// count is what runs on one node.
type count struct {
	Node
	services int
	limits   amount // static: of all that use the node; dynamic: of those coming
	real     amount // dynamic: measured
}

// amount is exact, so that sums don't depend on their order: cpu counts
// billionths of a core, mem bytes.
type amount struct{ cpu, mem int64 }

func (a *amount) add(b amount, sign int64) {
	a.cpu += sign * b.cpu
	a.mem += sign * b.mem
}

func amountOf(cores float64, mem int64) amount {
	return amount{int64(math.Round(cores * 1e9)), mem}
}

// load is an amount in parts of what a node has.
type load struct{ cpu, mem float64 }

func (a amount) of(n Node) load {
	return load{float64(a.cpu) / 1e9 / n.Cores, float64(a.mem) / float64(n.Mem)}
}

// New starts counting on the online nodes.
func New(mode Mode, online map[string]Node, services map[string]Service) (*Usage, error) {
	u := &Usage{
		mode:     mode,
		names:    slices.Sorted(maps.Keys(online)),
		nodes:    map[string]*count{},
		services: services,
		uses:     map[string]Use{},
	}
	for _, name := range u.names {
		n := online[name]
		switch mode {
		case Static:
			if n.Cores == 0 || n.Mem == 0 {
				return nil, fmt.Errorf("node '%s': number of cores or size of memory not known", name)
			}
		case Dynamic:
			if n.Cores == 0 {
				n.Cores = defaultNode.Cores
			}
			if n.Mem == 0 {
				n.Mem = defaultNode.Mem
			}
		}
		u.nodes[name] = &count{Node: n}
	}
	if mode == Dynamic {
		for _, s := range services {
			if n := u.nodes[s.On]; n != nil {
				n.real.add(amountOf(s.CPU, s.Mem), 1)
			}
		}
	}
	return u, nil
}

// Mode returns the way of counting.
func (u *Usage) Mode() Mode { return u.mode }

// Set replaces what is known of a service's use. Nodes that are not online
// don't count; a service that only has a target is taken to be there.
func (u *Usage) Set(sid string, use Use) {
	if u.nodes[use.Node] == nil {
		use.Node = ""
	}
	if u.nodes[use.Target] == nil || use.Target == use.Node {
		use.Target = ""
	}
	if use.Node == "" && use.Target != "" {
		use = Use{Node: use.Target, Coming: true}
	}
	u.count(sid, u.uses[sid], -1)
	u.uses[sid] = use
	u.count(sid, use, 1)
}

// Of returns the online nodes a service counts on.
func (u *Usage) Of(sid string) Use { return u.uses[sid] }

func (u *Usage) count(sid string, use Use, sign int) {
	for _, name := range []string{use.Node, use.Target} {
		n := u.nodes[name]
		if n == nil {
			continue
		}
		n.services += sign
		if u.mode == Static || u.mode == Dynamic && use.Coming && name == use.Node {
			n.limits.add(u.services[sid].limits(n.Node), int64(sign))
		}
	}
}

func (s Service) limits(n Node) amount {
	if s.MaxCPU == 0 {
		return amountOf(n.Cores, s.MaxMem)
	}
	return amountOf(s.MaxCPU, s.MaxMem)
}

// Scores returns the score of every online node for one more service; less is
// better.
func (u *Usage) Scores(sid string) map[string]float64 {
	scores := make(map[string]float64, len(u.names))
	if u.mode == Basic {
		for name, n := range u.nodes {
			scores[name] = float64(n.services)
		}
		return scores
	}
	loads := make([]load, len(u.names))
	for i, name := range u.names {
		n := u.nodes[name]
		loads[i] = n.expected(amount{})
	}
	alternatives := make([]figures, len(u.names))
	for i, name := range u.names {
		n := u.nodes[name]
		before := loads[i]
		loads[i] = n.expected(u.services[sid].limits(n.Node))
		alternatives[i] = describe(loads)
		loads[i] = before
	}
	for i, rating := range rate(alternatives) {
		scores[u.names[i]] = -rating
	}
	return scores
}

// expected returns a node's load with everything that is coming and some more.
func (n *count) expected(more amount) load {
	more.add(n.limits, 1)
	more.add(n.real, 1)
	return more.of(n.Node)
}
