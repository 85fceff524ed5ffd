package crm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/ha"
)

// A task is one service to be handled.
type task struct {
	sid    string
	s      *ha.Service
	config ha.Resource
}

// handlers say what a round does with a service in each state. A service in
// fence waits for its node.
var handlers = map[ha.ServiceState]func(*round, task){
	ha.RequestStop:         (*round).stopping,
	ha.Stopped:             (*round).stopped,
	ha.RequestStart:        (*round).starting,
	ha.RequestStartBalance: (*round).moving,
	ha.Migrate:             (*round).moving,
	ha.Relocate:            (*round).moving,
	ha.Started:             (*round).started,
	ha.Freeze:              (*round).frozen,
	ha.Failed:              (*round).failed,
	ha.Recovery:            (*round).recover,
}

// freezable are the states a service is frozen from while its LRM restarts.
var freezable = map[ha.ServiceState]bool{ha.Started: true, ha.Stopped: true, ha.RequestStop: true}

// leftover are the kinds of configuration lock that die with their node.
var leftover = []string{
	"backup", "mounted", "migrate", "clone", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended",
}

// String is the end of the line about a change of state.
func (v values) String() string {
	var set []string
	if v.node != "" {
		set = append(set, "node = "+v.node)
	}
	if v.target != "" {
		set = append(set, "target = "+v.target)
	}
	if v.timeout != nil {
		set = append(set, fmt.Sprintf("timeout = %d", *v.timeout))
	}
	if set == nil {
		return ""
	}
	return "  (" + strings.Join(set, ", ") + ")"
}

// active is the state in which a service runs or is made to stop, as requested.
func active(request ha.Request) ha.ServiceState {
	if request == ha.WantStarted {
		return ha.Started
	}
	return ha.RequestStop
}

func (r *round) stopping(t task) {
	result, done := r.results[t.s.UID]
	switch {
	case done && result.Code == ha.Success:
		r.enter(t.sid, ha.Stopped, values{})
	case done:
		r.log.Err("service '%s' stop failed (exit code %d)", t.sid, result.Code)
		r.enter(t.sid, ha.Failed, values{})
	case r.offlineLong(t.s.Node):
		r.enter(t.sid, ha.Fence, values{})
	}
}

func (r *round) moving(t task) {
	result, done := r.results[t.s.UID]
	if !done {
		if r.offlineLong(t.s.Node) {
			r.enter(t.sid, ha.Fence, values{})
		}
		return
	}
	next := values{node: t.s.Node}
	switch result.Code {
	case ha.Success:
		next.node = t.s.Target
	case ha.WrongNode:
		r.log.Err("service '%s' - migration failed: service registered on wrong node!", t.sid)
		r.enter(t.sid, ha.Failed, values{})
		return
	case ha.Ignored:
		r.log.Info("service '%s' - rebalance-on-start request ignored - service already running", t.sid)
	default:
		r.log.Err("service '%s' - migration failed (exit code %d)", t.sid, result.Code)
	}
	r.enter(t.sid, active(t.config.Request), next)
}

func (r *round) stopped(t task) {
	if t.config.Node != t.s.Node {
		r.log.Info("fixup service '%s' location (%s => %s)", t.sid, t.s.Node, t.config.Node)
		t.s.Node = t.config.Node
	}
	if c := t.s.Command; c != nil {
		t.s.Command = nil
		if c.Verb == "stop" {
			r.log.Info("ignore service '%s' stop request - service already stopped", t.sid)
		} else if r.reachable(t, *c) {
			r.enter(t.sid, ha.ServiceState(c.Verb), values{node: t.s.Node, target: c.Argument})
			return
		}
	}
	switch {
	case t.config.Request == ha.WantDisabled:
	case r.offlineLong(t.s.Node) && r.status.Nodes[t.s.Node] != ha.Maintenance:
		r.enter(t.sid, ha.Fence, values{})
	case t.config.Request == ha.WantStarted:
		r.enter(t.sid, ha.RequestStart, values{node: t.s.Node})
	}
}

// reachable says whether a queued motion can be carried out, and why not.
func (r *round) reachable(t task, c ha.Command) bool {
	switch {
	case !r.online(c.Argument):
		r.log.Err("ignore service '%s' %s request - node '%s' not online", t.sid, c.Verb, c.Argument)
		return false
	case c.Argument == t.s.Node:
		r.log.Info("ignore service '%s' %s request - service already on node '%s'", t.sid, c.Verb, c.Argument)
		return false
	}
	return true
}

func (r *round) starting(t task) {
	if r.view.Settings.RebalanceOnStart {
		node := r.choose(t, bestScore)
		switch node {
		case "":
		case t.s.Node:
			r.log.Info("service %s: re-balance selected current node %s for startup", t.sid, node)
		default:
			r.log.Info("service %s: re-balance selected new node %s for startup", t.sid, node)
			r.enter(t.sid, ha.RequestStartBalance, values{node: t.s.Node, target: node})
			return
		}
	}
	r.enter(t.sid, ha.Started, values{node: t.s.Node})
}

func (r *round) started(t task) {
	s := t.s
	if !r.online(s.Node) {
		if r.offlineLong(s.Node) {
			r.enter(t.sid, ha.Fence, values{})
		}
		if r.status.Nodes[s.Node] != ha.Maintenance {
			return
		}
		// In maintenance a service leaves, even from a node that went down in
		// it; the motion then finds the node away and asks for the fence again.
		s.MaintenanceNode = s.Node
	}
	if t.config.Request != ha.WantStarted {
		r.enter(t.sid, ha.RequestStop, values{})
		return
	}
	if c := s.Command; c != nil {
		s.Command = nil
		r.execute(t, *c)
		return
	}
	r.evaluate(t)
}

// execute carries out the command queued for a started service.
func (r *round) execute(t task, c ha.Command) {
	if c.Verb != "stop" {
		if r.reachable(t, c) {
			r.log.Info("%s service '%s' to node '%s'", c.Verb, t.sid, c.Argument)
			r.enter(t.sid, ha.ServiceState(c.Verb), values{node: t.s.Node, target: c.Argument})
		}
		return
	}
	timeout, err := strconv.Atoi(c.Argument)
	if err != nil {
		r.log.Err("ignore service '%s' stop request - timeout '%s' is not a number", t.sid, c.Argument)
		return
	}
	if timeout == 0 {
		r.log.Info("request immediate service hard-stop for service '%s'", t.sid)
	} else {
		r.log.Info("request graceful stop with timeout '%d' for service '%s'", timeout, t.sid)
	}
	r.out.Changes = append(r.out.Changes, SetRequest{t.sid, ha.WantStopped})
	r.enter(t.sid, ha.RequestStop, values{timeout: &timeout})
}

// evaluate looks at what the LRM says of a started service, and whether
// another node would be better.
func (r *round) evaluate(t task) {
	s := t.s
	result, done := r.results[s.UID]
	prefer := stay
	if done {
		switch result.Code {
		case ha.Success:
			if len(s.FailedNodes) > 0 {
				r.log.Info("relocation policy successful for '%s' on node '%s', failed nodes: %s",
					t.sid, s.Node, strings.Join(s.FailedNodes, ", "))
				s.FailedNodes = nil
			}
			s.Running = true
		case ha.Error, ha.WrongNode:
			s.Running = false
			s.FailedNodes = append(s.FailedNodes, s.Node)
			if len(s.FailedNodes) > t.config.MaxRelocate {
				r.log.Err("recovery policy for service %s failed, entering error state. Failed nodes: %s",
					t.sid, strings.Join(s.FailedNodes, ", "))
				r.enter(t.sid, ha.Failed, values{})
				return
			}
			r.log.Warn("starting service %s on node '%s' failed, relocating service.", t.sid, s.Node)
			prefer = tryNext
		default:
			s.FailedNodes = append(s.FailedNodes, s.Node)
			r.log.Err("service '%s' got unrecoverable error (exit code %d)", t.sid, result.Code)
			r.enter(t.sid, ha.Failed, values{})
			return
		}
	}
	node := r.choose(t, prefer)
	if node != "" && node != s.Node {
		r.leave(t, node)
		return
	}
	if prefer == tryNext && node == "" {
		r.log.Warn("Start Error Recovery: Tried all available nodes for service '%s', retry start on current node. Tried nodes: %s",
			t.sid, strings.Join(s.FailedNodes, ", "))
	}
	if s.MaintenanceNode == s.Node && r.online(s.Node) {
		r.log.Info("service '%s': clearing stale maintenance node '%s' setting (is current node)", t.sid, s.Node)
		s.MaintenanceNode = ""
	}
	if done {
		// A new UID makes the LRM look again whether the service still runs.
		s.UID = r.hands.NewUID()
	}
}

// leave sends a started service to a better node.
func (r *round) leave(t task, node string) {
	s := t.s
	switch s.MaintenanceNode {
	case "", s.Node:
	case node:
		r.log.Info("moving service '%s' back to '%s', node came back from maintenance.", t.sid, node)
		s.MaintenanceNode = ""
	default:
		r.log.Info("dropping maintenance fallback node '%s' for '%s'", s.MaintenanceNode, t.sid)
		s.MaintenanceNode = ""
	}
	motion := ha.MotionOf(t.sid)
	if motion == ha.Migrate {
		r.log.Info("migrate service '%s' to node '%s' (running)", t.sid, node)
	} else {
		r.log.Info("relocate service '%s' to node '%s'", t.sid, node)
	}
	r.enter(t.sid, motion, values{node: s.Node, target: node})
}

func (r *round) frozen(t task) {
	if r.modes[t.s.Node] == ha.ModeActive {
		r.enter(t.sid, active(t.config.Request), values{})
	}
}

func (r *round) failed(t task) {
	if t.config.Request == ha.WantDisabled {
		t.s.FailedNodes = nil
		r.enter(t.sid, ha.Stopped, values{})
	}
}

// recover finds a new node for a service whose node was fenced.
func (r *round) recover(t task) {
	old := t.s.Node
	node := r.choose(t, bestScore)
	switch node {
	case "":
		r.log.Err("recovering service '%s' from fenced node '%s' failed, no recovery node found", t.sid, old)
		if t.config.Request == ha.WantDisabled {
			r.enter(t.sid, ha.Stopped, values{})
		}
		return
	case old:
		r.log.Info("recover service '%s' to previous failed and fenced node '%s' again", t.sid, old)
	default:
		r.log.Info("recover service '%s' from fenced node '%s' to node '%s'", t.sid, old, node)
	}
	lock := r.hands.GuestLock(t.sid)
	stale := slices.Contains(leftover, lock)
	if stale {
		r.log.Warn("removed leftover lock '%s' from recovered service '%s' to allow its start.", lock, t.sid)
	}
	// A master that died before it wrote its status may have moved it already.
	r.out.Changes = append(r.out.Changes, Steal{t.sid, cmp.Or(t.config.Node, old), node, stale})
	t.config.Node = node
	r.view.Resources[t.sid] = t.config
	r.enter(t.sid, active(t.config.Request), values{node: node})
}
