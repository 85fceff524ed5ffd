package crm

import (
	"maps"
	"slices"

	"etcpve/agents/ha"
)

// offlineDelay is how many seconds a node may be away before it is fenced.
const offlineDelay = 60

// judgeNodes brings the node states up to date: first of all connected nodes,
// then of the others.
func (r *round) judgeNodes() {
	for _, node := range slices.Sorted(maps.Keys(r.view.Members)) {
		if !r.view.Members[node].Connected {
			continue
		}
		r.contact[node] = r.view.Now
		r.setNode(node, present(r.nodeState(node), r.modes[node]))
	}
	for _, node := range slices.Sorted(maps.Keys(r.status.Nodes)) {
		if m, member := r.view.Members[node]; !m.Connected {
			r.setNode(node, absent(r.nodeState(node), r.modes[node], member))
		}
	}
}

// present returns the next state of a connected node.
func present(s ha.NodeState, mode ha.Mode) ha.NodeState {
	switch s {
	case ha.Unknown, ha.Gone:
		return ha.Online
	case ha.Online:
		if mode == ha.ModeMaintenance {
			return ha.Maintenance
		}
	case ha.Maintenance:
		if mode != ha.ModeMaintenance {
			return ha.Online
		}
	}
	return s
}

// absent returns the next state of a node that is not connected. In
// maintenance a node may go away without harm.
func absent(s ha.NodeState, mode ha.Mode, member bool) ha.NodeState {
	switch s {
	case ha.Online:
		return ha.Unknown
	case ha.Maintenance:
		if mode != ha.ModeMaintenance {
			return ha.Unknown
		}
	case ha.Unknown:
		if !member {
			return ha.Gone
		}
	}
	return s
}

func (r *round) nodeState(node string) ha.NodeState {
	if s, known := r.status.Nodes[node]; known {
		return s
	}
	return ha.Unknown
}

func (r *round) setNode(node string, s ha.NodeState) {
	if before := r.nodeState(node); before != s {
		r.log.Info("node '%s': state changed from '%s' => '%s'", node, before, s)
		r.status.Nodes[node] = s
	}
}

// offlineLong reports whether a node is away long enough to be fenced. A
// master that has never seen it begins to count when it asks first.
func (r *round) offlineLong(node string) bool {
	if r.online(node) {
		return false
	}
	last, seen := r.contact[node]
	if !seen {
		r.contact[node] = r.view.Now
		return false
	}
	return r.view.Now-last >= offlineDelay
}

// fenceNodes fences the nodes of services in state fence, and nodes left in
// that state. It reports whether anything succeeded.
func (r *round) fenceNodes(only map[string]bool) (changed bool) {
	tried := map[string]bool{}
	for _, sid := range r.sids {
		s := r.status.Services[sid]
		if s.State != ha.Fence || only != nil && !only[sid] {
			continue
		}
		fenced, known := tried[s.Node]
		if !known {
			fenced = r.fence(s.Node)
			tried[s.Node] = fenced
		}
		if fenced {
			r.enter(sid, ha.Recovery, values{})
			changed = true
		}
	}
	for _, node := range slices.Sorted(maps.Keys(r.status.Nodes)) {
		if _, known := tried[node]; known || r.status.Nodes[node] != ha.Fencing {
			continue
		}
		r.log.Notice("node '%s' in fence state but no services to-fence! admin interference?!", node)
		changed = r.fence(node) || changed
	}
	return changed
}

// fence makes sure that nothing runs on a node: its LRM cannot hold its lock
// any more, and so its watchdog has reset it.
func (r *round) fence(node string) bool {
	if r.status.Nodes[node] != ha.Fencing {
		r.setNode(node, ha.Fencing)
		r.log.Email("FENCE: Try to fence node '%s'", node)
	}
	grip := r.hands.AgentLock(node)
	if grip == ha.Taken {
		r.log.Info("got lock '%s'", ha.AgentLock(node))
	}
	if !grip.Held() {
		return false
	}
	r.log.Info("fencing: acknowledged - got agent lock for node '%s'", node)
	r.setNode(node, ha.Unknown)
	r.log.Email("SUCCEED: fencing: acknowledged - got agent lock for node '%s'", node)
	return true
}
