package crm

import (
	"cmp"
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
	Free     bool   // it is settled, and no rule speaks of it
	Rejected []Rejection
}

// Brief is the verdict without its reasons.
func (v Verdict) Brief() string { return fmt.Sprintf("%s on %s", v.State, v.Node) }

// A Rejection is a node a service does not run on.
type Rejection struct{ Node, Reason string }

// String is the verdict in one line. Nodes rejected for one reason are named
// together, as there may be many.
func (v Verdict) String() string {
	var reasons []string
	nodes := map[string][]string{}
	for _, r := range v.Rejected {
		if nodes[r.Reason] == nil {
			reasons = append(reasons, r.Reason)
		}
		nodes[r.Reason] = append(nodes[r.Reason], r.Node)
	}
	var b strings.Builder
	b.WriteString(v.Brief())
	for _, reason := range reasons {
		fmt.Fprintf(&b, "; not %s: %s", join(nodes[reason]), reason)
	}
	return b.String()
}

func (r *round) explain() (all []Verdict) {
	nodes := slices.Sorted(maps.Keys(r.status.Nodes))
	for _, sid := range r.sids {
		p := r.position(sid)
		v := Verdict{SID: sid, State: p.s.State, Node: p.chosen, Rejected: make([]Rejection, 0, len(nodes))}
		v.Free = (v.State == ha.Started || v.State == ha.Stopped) && !p.bound && p.together == nil && len(p.s.FailedNodes) == 0
		for _, node := range nodes {
			if node != p.chosen {
				v.Rejected = append(v.Rejected, Rejection{node, r.against(p, node)})
			}
		}
		all = append(all, v)
	}
	return all
}

// A position is where a service is, and all that speaks for and against nodes.
type position struct {
	sid      string
	s        *ha.Service
	chosen   string
	place    rules.Place
	bound    bool // it has a place
	group    []string
	together map[string]int
	apart    map[string]bool
}

func (r *round) position(sid string) position {
	s := r.status.Services[sid]
	p := position{sid: sid, s: s, chosen: cmp.Or(s.Target, s.Node)}
	p.place, p.bound = r.constraints.Place(sid)
	p.together, p.apart = r.company(sid)
	if p.bound || p.together != nil {
		p.group = append([]string{sid}, r.constraints.Together(sid)...)
	}
	return p
}

// against says why a service is not on a node, the hardest reason first.
func (r *round) against(p position, node string) string {
	priority, named := p.place.Nodes[node]
	best, preferred := p.place.Nodes[p.chosen]
	switch {
	case !r.online(node):
		return fmt.Sprintf("it is not online (%s)", r.status.Nodes[node])
	case p.bound && p.place.Strict && !named:
		return "node affinity allows it only on " + join(slices.Sorted(maps.Keys(p.place.Nodes))) + r.by(rules.NodeAffinity, false, p.group)
	case p.apart[node]:
		rivals := r.constraints.Apart(p.sid)
		return "resource affinity keeps it apart from " + join(r.residents(rivals, node)) + " there" +
			r.by(rules.ResourceAffinity, false, append(slices.Clone(p.group), rivals...))
	case p.together[p.chosen] > 0 && p.together[p.chosen] >= p.together[node]:
		return "resource affinity keeps it with " + join(r.residents(r.constraints.Together(p.sid), p.chosen)) +
			r.by(rules.ResourceAffinity, true, p.group)
	case slices.Contains(p.s.FailedNodes, node):
		return "it failed to start there"
	case p.bound && preferred && (!named || priority < best):
		return fmt.Sprintf("node affinity prefers %s", p.chosen) + r.by(rules.NodeAffinity, false, p.group)
	case p.bound && named && (!preferred || priority > best):
		return "node affinity prefers it, but the service stays where it is" + r.by(rules.NodeAffinity, false, p.group)
	case p.s.State == ha.Started && bool(p.s.Running):
		return "it runs on " + p.chosen + " already"
	}
	// No rule speaks.
	if scores := r.usage.Scores(p.sid); scores[node] > scores[p.chosen] {
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
