package crm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/rules"
)

// A Verdict says where a service is or goes, and why not elsewhere.
type Verdict struct {
	SID      string
	State    ha.ServiceState
	Node     string // chosen
	Rejected []Rejection
}

// A Rejection is a node a service does not run on.
type Rejection struct{ Node, Reason string }

// String is the verdict in one line.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s", v.State, v.Node)
	for _, r := range v.Rejected {
		fmt.Fprintf(&b, "; not %s: %s", r.Node, r.Reason)
	}
	return b.String()
}

func (r *round) explain() (all []Verdict) {
	nodes := slices.Sorted(maps.Keys(r.status.Nodes))
	for _, sid := range r.status.SIDs() {
		s := r.status.Services[sid]
		v := Verdict{SID: sid, State: s.State, Node: s.Node}
		if s.Target != "" {
			v.Node = s.Target
		}
		for _, node := range nodes {
			if node != v.Node {
				v.Rejected = append(v.Rejected, Rejection{node, r.against(sid, node, v.Node)})
			}
		}
		all = append(all, v)
	}
	return all
}

// against says why a service is not on a node, the hardest reason first.
func (r *round) against(sid, node, chosen string) string {
	s := r.status.Services[sid]
	place, bound := r.constraints.Place(sid)
	priority, named := place.Nodes[node]
	best, preferred := place.Nodes[chosen]
	together, apart := r.company(sid)
	group := append([]string{sid}, r.constraints.Together(sid)...)
	switch {
	case !r.online(node):
		return fmt.Sprintf("it is not online (%s)", r.status.Nodes[node])
	case bound && place.Strict && !named:
		return "node affinity allows it only on " + join(slices.Sorted(maps.Keys(place.Nodes))) + r.by(rules.NodeAffinity, false, group)
	case apart[node]:
		return "resource affinity keeps it apart from " + join(r.residents(r.constraints.Apart(sid), node)) + " there" +
			r.by(rules.ResourceAffinity, false, append(group, r.constraints.Apart(sid)...))
	case together[chosen] > 0 && together[chosen] >= together[node]:
		return "resource affinity keeps it with " + join(r.residents(r.constraints.Together(sid), chosen)) +
			r.by(rules.ResourceAffinity, true, group)
	case slices.Contains(s.FailedNodes, node):
		return "it failed to start there"
	case bound && preferred && (!named || priority < best):
		return fmt.Sprintf("node affinity prefers %s", chosen) + r.by(rules.NodeAffinity, false, group)
	case bound && named && (!preferred || priority > best):
		return "node affinity prefers it, but the service stays where it is" + r.by(rules.NodeAffinity, false, group)
	}
	return r.indifferent(sid, node, chosen)
}

// indifferent is the reason where no rule speaks.
func (r *round) indifferent(sid, node, chosen string) string {
	if r.status.Services[sid].State == ha.Started && bool(r.status.Services[sid].Running) {
		return "it runs on " + chosen + " already"
	}
	if scores := r.usage.Scores(sid); scores[node] > scores[chosen] {
		return "it is more loaded"
	}
	return "nothing asks for it"
}

// residents are those of the services that count on a node.
func (r *round) residents(sids []string, node string) (there []string) {
	for _, sid := range sids {
		if use := r.usage.Of(sid); use.Node == node || use.Target == node {
			there = append(there, sid)
		}
	}
	return there
}

// by names the rules behind a reason.
func (r *round) by(kind rules.Kind, positive bool, sids []string) string {
	return " (rule " + join(r.constraints.Named(kind, positive, sids...)) + ")"
}

func join(words []string) string { return strings.Join(words, ", ") }
