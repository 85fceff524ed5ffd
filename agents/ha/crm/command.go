package crm

import (
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/ha"
)

// An order is one line of ha/crm_commands, taken apart.
type order struct {
	line string
	verb string
	args []string
}

// verbs say how many arguments a command has and who carries it out. A check
// on an argument fails the whole line.
var verbs = map[string]struct {
	args  int
	valid func(order) bool
	obey  func(*round, order)
}{
	"migrate":                  {2, always, (*round).orderMotion},
	"relocate":                 {2, always, (*round).orderMotion},
	"stop":                     {2, hasTimeout, (*round).orderStop},
	"enable-node-maintenance":  {1, always, (*round).orderMaintenance},
	"disable-node-maintenance": {1, always, (*round).orderService},
	"disarm-ha":                {1, hasDisarmMode, (*round).orderDisarm},
	"arm-ha":                   {0, always, (*round).orderArm},
}

func always(order) bool { return true }

func hasTimeout(o order) bool {
	n, err := strconv.Atoi(o.args[1])
	return err == nil && n >= 0
}

func hasDisarmMode(o order) bool {
	return o.args[0] == string(ha.DisarmFreeze) || o.args[0] == string(ha.DisarmIgnore)
}

// obey carries out all queued commands.
func (r *round) obey() {
	for _, line := range r.view.Commands {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		o := order{line, words[0], words[1:]}
		if v, known := verbs[o.verb]; known && len(o.args) == v.args && v.valid(o) {
			v.obey(r, o)
		} else {
			r.log.Err("unable to parse crm command: %s", line)
		}
	}
	r.out.Commands = len(r.view.Commands)
}

func (r *round) orderMotion(o order) {
	sid, node := o.args[0], o.args[1]
	s := r.status.Services[sid]
	switch {
	case s == nil:
		r.log.Err("crm command error - no such service: %s", o.line)
	case !r.online(node):
		r.log.Err("crm command error - node not online: %s", o.line)
	case s.Node == node:
		r.log.Info("ignore crm command - service already on target node: %s", o.line)
	default:
		r.queueMotion(o.line, ha.ServiceState(o.verb), sid, node)
	}
}

// queueMotion queues a motion for a service and all that belong with it,
// unless one it has to avoid is there.
func (r *round) queueMotion(line string, motion ha.ServiceState, sid, node string) {
	blocked := false
	for _, other := range r.constraints.Apart(sid) {
		s := r.status.Services[other]
		if s == nil || s.Node != node || s.Target != "" && s.Target != node {
			continue
		}
		r.log.Err("crm command '%s' error - service '%s' on node '%s' in negative affinity with service '%s'", line, other, node, sid)
		blocked = true
	}
	if blocked {
		return
	}
	r.log.Info("got crm command: %s", line)
	command := &ha.Command{Verb: string(motion), Argument: node}
	r.status.Services[sid].Command = command
	for _, other := range r.constraints.Together(sid) {
		s := r.status.Services[other]
		if s == nil || s.Node == node || s.Target == node {
			continue
		}
		r.log.Info("crm command '%s' - %s service '%s' to node '%s' (service '%s' in positive affinity with service '%s')",
			line, motion, other, node, other, sid)
		s.Command = command
	}
}

func (r *round) orderStop(o order) {
	s := r.status.Services[o.args[0]]
	if s == nil {
		r.log.Err("crm command error - no such service: %s", o.line)
		return
	}
	r.log.Info("got crm command: %s", o.line)
	s.Command = &ha.Command{Verb: "stop", Argument: o.args[1]}
}

func (r *round) orderMaintenance(o order) {
	node := o.args[0]
	switch {
	case r.status.Disarm != nil:
		r.log.Warn("ignoring maintenance command for node %s - HA stack is disarmed", node)
	case r.online(node):
		r.status.Requests[node] = ha.NodeRequest{Maintenance: true}
	case r.status.Nodes[node] == ha.Maintenance:
		r.log.Info("ignoring crm command - node %s is already in maintenance state", node)
	default:
		r.log.Err("crm command error - node not online: %s", o.line)
	}
}

// orderService puts a node back into service.
func (r *round) orderService(o order) {
	node := o.args[0]
	if s := r.nodeState(node); s != ha.Maintenance {
		r.log.Warn("clearing maintenance of node %s requested, but it's in state %s", node, s)
	}
	delete(r.status.Requests, node)
}

func (r *round) orderDisarm(o order) {
	if d := r.status.Disarm; d != nil {
		r.log.Notice("ignoring disarm-ha command - already in disarm state (%s)", d.State)
		return
	}
	r.log.Info("got crm command: %s", o.line)
	mode := ha.DisarmMode(o.args[0])
	if mode == ha.DisarmIgnore {
		for _, sid := range r.sids {
			r.log.Info("disarm: suspending HA tracking for service '%s'", sid)
		}
	}
	r.status.Disarm = &ha.Disarm{Mode: mode, State: ha.Disarming}
}

func (r *round) orderArm(o order) {
	d := r.status.Disarm
	if d == nil {
		r.log.Notice("ignoring arm-ha command - HA stack is not disarmed")
		return
	}
	r.log.Info("got crm command: %s", o.line)
	if d.Mode == ha.DisarmIgnore {
		for _, sid := range r.sids {
			s, c := r.status.Services[sid], r.view.Resources[sid]
			if c.Node != s.Node {
				r.log.Info("service '%s': updating node '%s' => '%s' (changed while disarmed)", sid, s.Node, c.Node)
				s.Node = c.Node
				r.count(sid)
			}
		}
	}
	r.status.Disarm = nil
}

// deferring says with which weight a state puts off disarming.
var deferring = map[ha.ServiceState]ha.Level{
	ha.Fence:    ha.Warn,
	ha.Recovery: ha.Warn,
	ha.Migrate:  ha.Info,
	ha.Relocate: ha.Info,
}

// disarmable are the states services are frozen from.
var disarmable = []ha.ServiceState{ha.Started, ha.Stopped, ha.RequestStop, ha.RequestStart, ha.RequestStartBalance}

// disarm does what a disarm record asks for. It returns the services that
// have to be handled before that is possible.
func (r *round) disarm() (first map[string]bool) {
	d := r.status.Disarm
	if d == nil {
		return nil
	}
	for _, sid := range r.sids {
		state := r.status.Services[sid].State
		if level, found := deferring[state]; found {
			r.log(level, "deferring disarm - service '"+sid+"' is in '"+string(state)+"' state")
			if first == nil {
				first = map[string]bool{}
			}
			first[sid] = true
		}
	}
	if first != nil {
		return first
	}
	for _, sid := range r.sids {
		r.suspend(sid, d.Mode)
	}
	if d.State != ha.Disarmed && r.allDisarmed() {
		r.log.Info("all LRMs disarmed, HA stack is now fully disarmed")
		d.State = ha.Disarmed
	}
	return nil
}

// suspend forgets what was going on with a service. To ignore it is to keep
// its state and UID for the day HA is armed again.
func (r *round) suspend(sid string, mode ha.DisarmMode) {
	s := r.status.Services[sid]
	kept := ha.Service{State: s.State, Node: s.Node, UID: s.UID, MaintenanceNode: s.MaintenanceNode}
	if mode == ha.DisarmFreeze {
		if !slices.Contains(disarmable, s.State) {
			return
		}
		r.log.Info("disarm: freezing service '%s' (was '%s')", sid, s.State)
		kept.State, kept.UID = ha.Freeze, r.hands.NewUID()
	}
	*s = kept
	r.count(sid)
}

func (r *round) allDisarmed() bool {
	for node := range r.status.Nodes {
		if r.online(node) && r.modes[node] != ha.ModeDisarm {
			return false
		}
	}
	return true
}
