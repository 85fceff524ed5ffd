package crm

import (
	"cmp"
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
	if p == stay && !t.config.Failback && slices.Contains(allowed, here) && (together[here] > 0 || !apart[here]) {
		return here
	}
	if p == tryNext {
		preferred = keep(preferred, func(node string) bool { return !slices.Contains(t.s.FailedNodes, node) })
	}
	if len(apart) > 0 {
		preferred = keep(preferred, func(node string) bool { return !apart[node] })
	}
	if node, found := gather(preferred, together); found {
		preferred = []string{node}
	}
	if t.s.MaintenanceNode != "" && slices.Contains(preferred, t.s.MaintenanceNode) {
		return t.s.MaintenanceNode
	}
	if p == stay && slices.Contains(preferred, here) {
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
// with the highest priority, both by name. The slices are not to be changed.
func (r *round) candidates(sid string) (allowed, preferred []string) {
	const unnamed = -1 // the priority of nodes a rule allows without naming them
	place, bound := r.constraints.Place(sid)
	if !bound {
		return r.onlineNodes, r.onlineNodes
	}
	best := unnamed
	for _, node := range r.onlineNodes {
		priority, named := place.Nodes[node]
		if !named {
			if place.Strict {
				continue
			}
			priority = unnamed
		}
		allowed = append(allowed, node)
		if priority > best {
			best, preferred = priority, nil
		}
		if priority == best {
			preferred = append(preferred, node)
		}
	}
	return allowed, preferred
}

// keep returns the nodes that pass, and leaves the given ones as they are.
func keep(nodes []string, pass func(string) bool) (kept []string) {
	for _, node := range nodes {
		if pass(node) {
			kept = append(kept, node)
		}
	}
	return kept
}

// company returns how many services that belong together with this one are on
// each node, and the nodes it has to avoid.
func (r *round) company(sid string) (together map[string]int, apart map[string]bool) {
	companions, rivals := r.constraints.Together(sid), r.constraints.Apart(sid)
	if len(companions)+len(rivals) == 0 {
		return nil, nil
	}
	together, apart = map[string]int{}, map[string]bool{}
	for _, other := range companions {
		use := r.usage.Of(other)
		if node := cmp.Or(use.Target, use.Node); node != "" {
			together[node]++
		}
	}
	for _, other := range rivals {
		use := r.usage.Of(other)
		for _, node := range []string{use.Node, use.Target} {
			if node != "" {
				apart[node] = true
			}
		}
	}
	return together, apart
}

// gather returns the node with most companions, if there are any.
func gather(nodes []string, together map[string]int) (best string, found bool) {
	for _, node := range nodes {
		if n := together[node]; n > 0 && n > together[best] {
			best, found = node, true
		}
	}
	return best, found
}

// byScore orders nodes by their score, equal ones by name.
func (r *round) byScore(sid string, nodes []string) []string {
	if len(nodes) < 2 {
		return nodes
	}
	order, scores := slices.Clone(nodes), r.usage.Scores(sid)
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(scores[a], scores[b]) })
	return order
}

func (r *round) online(node string) bool { return r.status.Nodes[node] == ha.Online }
