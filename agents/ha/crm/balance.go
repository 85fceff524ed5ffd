package crm

import (
	"fmt"

	"etcpve/agents/ha"
	"etcpve/agents/ha/schedule"
)

// balance queues one move when the load of the nodes has been uneven for long
// enough and the move makes a difference.
func (r *round) balance() {
	c := r.view.Settings.Rebalance
	if !c.Enabled || r.usage.Mode() == schedule.Basic || r.inMotion() {
		return
	}
	if r.usage.Imbalance() <= c.Threshold {
		r.imbalanced = 0
		return
	}
	r.imbalanced++
	if float64(r.imbalanced) < c.Hold {
		return
	}
	r.imbalanced = 0
	move, found := r.usage.BestMove(r.bundles(), c.Method == "topsis")
	if !found || move.Before-move.After < c.Margin*move.Before {
		return
	}
	motion := ha.MotionOf(move.Leader)
	r.log.Info("auto rebalance - %s %s to %s (expected change for imbalance from %.2f to %.2f)",
		motion, move.Leader, move.Target, move.Before, move.After)
	r.queueMotion(fmt.Sprintf("%s %s %s", motion, move.Leader, move.Target), motion, move.Leader, move.Target)
}

// inMotion reports whether any service moves or is about to.
func (r *round) inMotion() bool {
	for _, s := range r.status.Services {
		if s.State.Moving() || s.Command != nil && s.Command.Verb != "stop" {
			return true
		}
	}
	return false
}

// bundles lists what can be moved: started services with their companions, if
// they are on one node.
func (r *round) bundles() (all []schedule.Bundle) {
	for _, sid := range r.sids {
		node := r.status.Services[sid].Node
		if members := r.bundle(sid); members != nil && r.online(node) {
			all = append(all, schedule.Bundle{Services: members, Node: node, Targets: r.targets(sid, node)})
		}
	}
	return all
}

// bundle returns the started services that move with sid, or nil if sid does
// not lead them or they are spread over nodes.
func (r *round) bundle(sid string) []string {
	s := r.status.Services[sid]
	if s.State != ha.Started {
		return nil
	}
	members := []string{sid}
	for _, other := range r.constraints.Together(sid) {
		o := r.status.Services[other]
		switch {
		case o == nil || o.State != ha.Started:
		case other < sid || o.Node != s.Node:
			return nil
		default:
			members = append(members, other)
		}
	}
	return members
}

func (r *round) targets(sid, here string) []string {
	_, preferred := r.candidates(sid)
	_, apart := r.company(sid)
	return keep(preferred, func(node string) bool { return !apart[node] && node != here })
}
