package crm

import (
	"fmt"
	"maps"
	"slices"

	"etcpve/agents/ha"
	"etcpve/agents/ha/rules"
	"etcpve/agents/ha/schedule"
)

// A Memory is what a master knows from one round to the next. Only its status
// survives a change of master.
type Memory struct {
	status      ha.ManagerStatus
	contact     map[string]int64 // when a node was last connected; shared by all copies
	scheduler   schedule.Mode
	bound       bound
	constraints rules.Constraints
	ignored     []Ignored
	groupWait   int // rounds until groups are converted
	imbalanced  int // rounds the imbalance lasts
}

// bound is what constraints were derived from.
type bound struct {
	rules, groups string
	nodes         []string
	members       string // services of groups, while there are groups
	derived       bool
}

// equal leaves the members of groups aside: a service that comes or goes is no
// reason to report the same findings again.
func (b bound) equal(c bound) bool {
	return b.rules == c.rules && b.groups == c.groups && b.derived == c.derived && slices.Equal(b.nodes, c.nodes)
}

// Succeed returns the memory of a new master, which goes on from what its
// predecessor wrote.
func Succeed(status ha.ManagerStatus, settings ha.Settings, log ha.Log) Memory {
	m := Memory{
		status:    status.Clone(),
		contact:   map[string]int64{},
		scheduler: modeOf(settings),
		groupWait: groupsFirst,
	}
	if m.status.Nodes == nil {
		m.status.Nodes = map[string]ha.NodeState{}
	}
	if m.status.Requests == nil {
		m.status.Requests = map[string]ha.NodeRequest{}
	}
	if m.scheduler != schedule.Basic {
		log.Info("using scheduler mode '%s'", m.scheduler)
	}
	return m
}

func modeOf(settings ha.Settings) schedule.Mode {
	switch mode := schedule.Mode(settings.Scheduler); mode {
	case schedule.Static, schedule.Dynamic:
		return mode
	}
	return schedule.Basic
}

// A round is one round at work.
type round struct {
	Memory
	view    View
	hands   Hands
	log     ha.Log
	out     Outcome
	modes   map[string]ha.Mode
	results map[string]ha.Result // by UID
	usage   *schedule.Usage
	sids    []string // the services of the status, in order; the same from their enlisting on
	// onlineNodes are in order. Fencing concerns only nodes that are not online,
	// so they stay the same from their first use in a round to its end.
	onlineNodes []string
}

// Round decides once. The memory it is called on stays as it was.
func (m Memory) Round(v View, hands Hands) (Memory, Outcome) {
	r := &round{Memory: m, view: v, hands: hands}
	r.status = m.status.Clone()
	r.view.Resources = maps.Clone(v.Resources)
	r.log = func(level ha.Level, text string) {
		r.out.Lines = append(r.out.Lines, Line{level, text})
	}
	r.hear()
	r.judgeNodes()
	if s := r.status.Nodes[v.Node]; s != ha.Online && s != ha.Maintenance {
		r.log.Info("master seems offline")
		r.out.Offline = true
		return r.Memory, r.out
	}
	r.decide()
	r.status.Master = v.Node
	r.status.Timestamp = v.Now
	r.out.Status = r.status.Clone()
	r.out.Ignored = r.ignored
	r.out.Explain = r.explain
	return r.Memory, r.out
}

// decide is the part of a round that needs the master to be online.
func (r *round) decide() {
	r.chooseScheduler()
	groups := r.convertGroups()
	r.enlist()
	r.startCounting()
	r.deriveConstraints(groups)
	r.obey()
	only := r.disarm()
	if r.status.Disarm == nil {
		r.balance()
	}
	if r.status.Disarm == nil || len(only) > 0 {
		r.settle(only)
	}
}

// hear collects what the LRMs of all known nodes say.
func (r *round) hear() {
	r.modes, r.results = map[string]ha.Mode{}, map[string]ha.Result{}
	for node := range r.status.Nodes {
		lrm := r.view.LRMs[node]
		r.modes[node] = lrm.Mode
		if lrm.Mode == "" {
			r.modes[node] = ha.ModeActive
		}
		maps.Copy(r.results, lrm.Results)
	}
}

func (r *round) chooseScheduler() {
	if mode := modeOf(r.view.Settings); mode != r.scheduler {
		r.log.Info("switching scheduler mode from '%s' to '%s'", r.scheduler, mode)
		r.scheduler = mode
	}
}

// enlist makes the services of the status those of the configuration.
func (r *round) enlist() {
	for _, sid := range slices.Sorted(maps.Keys(r.view.Resources)) {
		c := r.view.Resources[sid]
		if r.status.Services[sid] != nil || c.Request == ha.WantIgnored || r.status.Disarm != nil {
			continue
		}
		r.log.Info("adding new service '%s' on node '%s'", sid, c.Node)
		state := ha.RequestStop
		if c.Request == ha.WantStarted {
			state = ha.RequestStart
		}
		r.status.Services[sid] = &ha.Service{State: state, Node: c.Node, UID: r.hands.NewUID()}
	}
	for _, sid := range r.status.SIDs() {
		switch c, found := r.view.Resources[sid]; {
		case !found:
			r.log.Info("removing stale service '%s' (no config)", sid)
			delete(r.status.Services, sid)
		case c.Request == ha.WantIgnored:
			r.log.Info("removing stale service '%s' (ignored state requested)", sid)
			delete(r.status.Services, sid)
		}
	}
	r.sids = r.status.SIDs()
}

// startCounting computes the usage of the online nodes.
func (r *round) startCounting() {
	online := map[string]schedule.Node{}
	for _, node := range slices.Sorted(maps.Keys(r.status.Nodes)) {
		if r.online(node) {
			r.onlineNodes = append(r.onlineNodes, node)
			online[node] = r.view.Members[node].Node
		}
	}
	u, err := schedule.New(r.scheduler, online, r.view.Services)
	if err != nil {
		r.log.Warn("fallback to 'basic' scheduler mode, init for '%s' failed - %v", r.scheduler, err)
		u, _ = schedule.New(schedule.Basic, online, nil) // basic needs no figures
	}
	r.usage = u
	for sid := range r.status.Services {
		r.count(sid)
	}
}

// count tells the usage where a service is now.
func (r *round) count(sid string) {
	s := r.status.Services[sid]
	var use schedule.Use
	switch s.State {
	case ha.Started, ha.RequestStop, ha.Fence, ha.Freeze, ha.Failed, ha.Recovery, ha.Migrate, ha.Relocate:
		use.Node = s.Node
		use.Coming = s.State == ha.Started && !bool(s.Running)
	}
	if s.State.Moving() {
		use.Target = s.Target
	}
	r.usage.Set(sid, use)
}

// deriveConstraints reads the rules again if anything they depend on changed.
// With a mistake in them the rules known before hold, or, if there are none, the
// others.
func (r *round) deriveConstraints(groups []rules.Group) {
	now := bound{rules: r.view.Rules, groups: r.view.Groups, nodes: slices.Sorted(maps.Keys(r.status.Nodes)), derived: true}
	var members map[string][]string
	if len(groups) > 0 {
		members = r.members()
		now.members = fmt.Sprint(members)
	}
	known := r.bound.equal(now)
	if known && r.bound.members == now.members {
		return
	}
	before := r.bound
	r.bound = now
	all, mistakes := rules.Parse(r.view.Rules)
	if mistakes != nil && before.derived {
		r.log.Err("keeping the rules known before - %v", mistakes[0])
		r.ignored = []Ignored{{Reason: "the rules known before hold: " + mistakes[0].Error()}}
		return
	}
	all = append(all, rules.FromGroups(groups, members)...)
	findings, sound := rules.Check(all, len(now.nodes))
	r.constraints = rules.Derive(sound)
	r.ignored = nil
	for _, m := range mistakes {
		r.ignored = append(r.ignored, Ignored{Reason: m.Error()})
	}
	for _, f := range findings {
		r.ignored = append(r.ignored, Ignored(f))
	}
	if known {
		return
	}
	for _, m := range mistakes {
		r.log.Err("ignoring a rule - %v", m)
	}
	for _, f := range findings {
		r.log.Info("%s", f)
	}
}

// settle handles services until nothing changes any more; if only is given,
// it handles no others.
func (r *round) settle(only map[string]bool) {
	for again := true; again; {
		again = r.handleServices(only)
		again = r.fenceNodes(only) || again
	}
}

func (r *round) handleServices(only map[string]bool) (changed bool) {
	for _, sid := range r.sids {
		if only != nil && !only[sid] {
			continue
		}
		s := r.status.Services[sid]
		before := s.State
		if handle := handlers[s.State]; handle != nil {
			handle(r, task{sid, s, r.view.Resources[sid]})
		}
		if r.modes[s.Node] == ha.ModeRestart && freezable[s.State] {
			r.enter(sid, ha.Freeze, values{})
		}
		changed = changed || s.State != before
	}
	return changed
}

// values are what a change of state sets.
type values struct {
	node, target string
	timeout      *int
}

// enter changes the state of a service. What it does not set is forgotten,
// except for the node and what has to be remembered across states.
func (r *round) enter(sid string, state ha.ServiceState, v values) {
	s := r.status.Services[sid]
	r.log.Info("service '%s': state changed from '%s' to '%s'%s", sid, s.State, state, v)
	node := s.Node
	if v.node != "" {
		node = v.node
	}
	*s = ha.Service{
		State:           state,
		Node:            node,
		Target:          v.target,
		Timeout:         v.timeout,
		FailedNodes:     s.FailedNodes,
		MaintenanceNode: s.MaintenanceNode,
		UID:             r.hands.NewUID(),
	}
	r.count(sid)
}
