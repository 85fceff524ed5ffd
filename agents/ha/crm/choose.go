package crm

import (
	"cmp"
	"maps"
	"slices"

	"etcpve/agents/ha"
)

// A preference says what is looked for in a node.
type preference int

const (
	stay      preference = iota // the current node, unless another one has to be
	bestScore                   // the least loaded one
	tryNext                     // the one after the current, as starting failed here
)

// choose returns the node for a service, or "".
func (r *round) choose(t task, p preference) string {
	allowed, preferred := r.candidates(t.sid)
	if len(preferred) == 0 {
		return ""
	}
	together, apart := r.company(t.sid)
	here := t.s.Node
	if p == stay && !t.config.Failback && allowed[here] && (together[here] > 0 || !apart[here]) {
		return here
	}
	if p == tryNext {
		for _, node := range t.s.FailedNodes {
			delete(preferred, node)
		}
	}
	maps.DeleteFunc(preferred, func(node string, _ bool) bool { return apart[node] })
	gather(preferred, together)

	if preferred[t.s.MaintenanceNode] {
		return t.s.MaintenanceNode
	}
	if p == stay && preferred[here] {
		return here
	}
	order := r.byScore(t.sid, preferred)
	if len(order) == 0 {
		return ""
	}
	if p == tryNext {
		return order[(slices.Index(order, here)+1)%len(order)]
	}
	return order[0]
}

// candidates returns the online nodes a service may run on, and those of them
// with the highest priority.
func (r *round) candidates(sid string) (allowed, preferred map[string]bool) {
	const unnamed = -1 // the priority of nodes a rule allows without naming them
	allowed, preferred = map[string]bool{}, map[string]bool{}
	place, bound := r.constraints.Place(sid)
	best := unnamed
	for node := range r.status.Nodes {
		if !r.online(node) {
			continue
		}
		priority, named := place.Nodes[node]
		if !named {
			if bound && place.Strict {
				continue
			}
			priority = unnamed
		}
		allowed[node] = true
		if priority > best {
			best = priority
			clear(preferred)
		}
		if priority == best {
			preferred[node] = true
		}
	}
	return allowed, preferred
}

// company returns how many services that belong together with this one are on
// each node, and the nodes it has to avoid.
func (r *round) company(sid string) (together map[string]int, apart map[string]bool) {
	together, apart = map[string]int{}, map[string]bool{}
	for _, other := range r.constraints.Together(sid) {
		use := r.usage.Of(other)
		if node := cmp.Or(use.Target, use.Node); node != "" {
			together[node]++
		}
	}
	for _, other := range r.constraints.Apart(sid) {
		use := r.usage.Of(other)
		for _, node := range []string{use.Node, use.Target} {
			if node != "" {
				apart[node] = true
			}
		}
	}
	return together, apart
}

// gather keeps only the node with most companions, if there are any.
func gather(preferred map[string]bool, together map[string]int) {
	best := ""
	for _, node := range slices.Sorted(maps.Keys(preferred)) {
		if together[node] > together[best] {
			best = node
		}
	}
	if best != "" {
		maps.DeleteFunc(preferred, func(node string, _ bool) bool { return node != best })
	}
}

// byScore orders nodes by their score, equal ones by name.
func (r *round) byScore(sid string, nodes map[string]bool) []string {
	order := slices.Sorted(maps.Keys(nodes))
	if len(order) < 2 {
		return order
	}
	scores := r.usage.Scores(sid)
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(scores[a], scores[b]) })
	return order
}

func (r *round) online(node string) bool { return r.status.Nodes[node] == ha.Online }
