// Package lrm executes what the CRM decided, on one node.
//
// It owns the LRM: its way to the agent lock and back, the queue of jobs, the
// restart policy, and leaving the node in order when it is shut down. It never
// decides where a service runs, and it touches guests only through Guests and
// only while it holds its node's agent lock.
package lrm

import (
	"maps"
	"slices"

	"etcpve/agents/ha"
)

const (
	// idleRounds is how many rounds an LRM keeps its lock without any service.
	idleRounds = 60
	// giveUpAfter is how many seconds a restart waits for a lost lock.
	giveUpAfter = 90
)

// Cluster is what an LRM must know of its node's place in the cluster.
type Cluster interface {
	// Quorate reports whether this node belongs to the majority.
	Quorate() bool
	// Consistent reports whether the cluster file system answers with what the
	// cluster agreed on.
	Consistent() bool
	// ShutdownPolicy returns the policy of datacenter.cfg.
	ShutdownPolicy() string
	// Now returns the time in seconds.
	Now() int64
}

// Store is the way to the files under /etc/pve.
type Store interface {
	// Status reads ha/manager_status.
	Status() (ha.ManagerStatus, error)
	// Resources reads what is configured.
	Resources() (map[string]ha.Resource, error)
	// Publish writes the node's lrm_status.
	Publish(ha.LRMStatus) error
}

// Config is what an LRM is made of.
type Config struct {
	Node    string
	Cluster Cluster
	Store   Store
	Guests  Guests
	Guard   *ha.Guard // of the node's agent lock
	Log     ha.Log    // with workers it is called at the same time
	// Announced is set when a status has been written; until then the LRM
	// waits for quorum before it looks at anything.
	Announced *bool
	// Workers is how many jobs may run beside the LRM, so that it goes on
	// renewing its lock; 0 does each job in the middle of a step.
	Workers int
}

// An LRM is one node's local resource manager. Its methods are called by one
// goroutine.
type LRM struct {
	Config
	state  ha.LRMState
	mode   ha.Mode
	seen   ha.ManagerStatus
	work   *work
	idle   int   // rounds without any service here
	lostAt int64 // when the lock was lost
	ending shutdown
}

// New returns an LRM that waits for its lock.
func New(c Config) *LRM {
	l := &LRM{Config: c, state: ha.LRMStarting, mode: ha.ModeActive, work: newWork(c.Node, c.Guests, c.Log, c.Workers)}
	l.enter(ha.LRMWait)
	return l
}

// State returns the LRM's state.
func (l *LRM) State() ha.LRMState { return l.state }

// Mode returns the LRM's mode.
func (l *LRM) Mode() ha.Mode { return l.mode }

// Wait waits for the jobs that run beside the LRM. Without workers there are none.
func (l *LRM) Wait() { l.work.drain() }

// Step does one iteration. It reports whether the LRM has ended.
func (l *LRM) Step() (ended bool) {
	if !*l.Announced && !l.publish() {
		return l.ending.asked
	}
	l.look()
	if next := transitions[l.state](l); next != l.state {
		l.enter(next)
	}
	return duties[l.state](l)
}

func (l *LRM) enter(s ha.LRMState) {
	l.Log.Info("status change %s => %s", l.state, s)
	l.state = s
	l.idle = 0
	if s == ha.LRMLost {
		l.lostAt = l.Cluster.Now()
	}
}

// look reads what the CRM decided and follows it with the mode. If that can't
// be read the old decisions stay.
func (l *LRM) look() bool {
	status, err := l.Store.Status()
	if err != nil {
		l.Log.Err("updating service status from manager failed: %v", err)
		return false
	}
	l.seen = status
	l.work.forget(status.Services)
	if l.ending.asked {
		return true
	}
	switch {
	case bool(status.Requests[l.Node].Maintenance):
		l.mode = ha.ModeMaintenance
	case status.Disarm != nil:
		l.mode = ha.ModeDisarm
	case l.mode == ha.ModeMaintenance || l.mode == ha.ModeDisarm:
		l.mode = ha.ModeActive
	}
	return true
}

// transitions return the next state from each state.
var transitions = map[ha.LRMState]func(*LRM) ha.LRMState{
	ha.LRMWait:        (*LRM).fromWait,
	ha.LRMLost:        (*LRM).fromLost,
	ha.LRMActive:      (*LRM).fromActive,
	ha.LRMMaintenance: (*LRM).fromMaintenance,
}

func (l *LRM) fromWait() ha.LRMState {
	if l.mode != ha.ModeDisarm && l.seen.ActiveOn(l.Node) > 0 && l.mayHold() && l.Guard.Hold() {
		return ha.LRMActive
	}
	return ha.LRMWait
}

func (l *LRM) fromLost() ha.LRMState {
	if l.mayHold() && l.Guard.Hold() {
		return ha.LRMActive
	}
	return ha.LRMLost
}

func (l *LRM) fromActive() ha.LRMState {
	switch {
	case l.seen.FenceRequested(l.Node):
		l.Log.Err("node needs to be fenced - releasing agent_lock")
		return ha.LRMLost
	case !l.Guard.Hold():
		return ha.LRMLost
	case l.mode == ha.ModeMaintenance:
		return ha.LRMMaintenance
	case l.mode == ha.ModeDisarm:
		if l.work.run(l.resources); !l.work.done() {
			return ha.LRMActive
		}
		l.Log.Info("HA disarm requested, releasing agent lock and watchdog")
		l.release()
		return ha.LRMWait
	case l.hasService():
		l.idle = 0
	case l.idle < idleRounds:
		l.idle++
	default:
		l.Log.Info("node had no service configured for %d rounds, going idle.", idleRounds)
		l.release()
		return ha.LRMWait
	}
	return ha.LRMActive
}

func (l *LRM) fromMaintenance() ha.LRMState {
	active := l.seen.ActiveOn(l.Node) > 0 || len(l.work.busy) > 0
	switch {
	case l.seen.FenceRequested(l.Node):
		l.Log.Err("node needs to be fenced during maintenance mode - releasing agent_lock")
		return ha.LRMLost
	case l.mode == ha.ModeDisarm && !active:
		l.Log.Info("HA disarm requested during maintenance, releasing agent lock and watchdog")
		l.release()
		return ha.LRMWait
	case active && !l.Guard.Hold():
		return ha.LRMLost
	case l.mode == ha.ModeMaintenance:
		return ha.LRMMaintenance
	case l.Guard.Hold():
		return ha.LRMActive
	}
	return ha.LRMLost
}

// mayHold reports whether the lock may be asked for.
func (l *LRM) mayHold() bool {
	return !l.seen.FenceRequested(l.Node) && l.Cluster.Quorate()
}

func (l *LRM) hasService() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(l.seen.Services)), func(s *ha.Service) bool { return s.Node == l.Node })
}

func (l *LRM) release() {
	l.Guard.Unwatch()
	l.Guard.Unlock()
}

// duties do the work of each state. They report whether the LRM has ended.
var duties = map[ha.LRMState]func(*LRM) bool{
	ha.LRMWait:        (*LRM).wait,
	ha.LRMLost:        (*LRM).mourn,
	ha.LRMActive:      (*LRM).serve,
	ha.LRMMaintenance: (*LRM).maintain,
}

func (l *LRM) wait() (ended bool) {
	if l.ending.asked {
		return true
	}
	l.publish()
	return false
}

// mourn waits for the lock to come back or for the watchdog to bite.
func (l *LRM) mourn() (ended bool) {
	if !l.ending.asked {
		return false
	}
	active := l.seen.ActiveOn(l.Node)
	if active == 0 {
		l.Guard.Unwatch()
		return true
	}
	l.Log.Err("got shutdown request in state 'lost_agent_lock' - detected %d running services", active)
	if l.mode == ha.ModeRestart && l.Cluster.Now()-l.lostAt > giveUpAfter {
		l.Log.Err("lost agent lock and restart request for over %d seconds - giving up!", giveUpAfter)
		return true
	}
	return false
}

func (l *LRM) serve() (ended bool) {
	if l.look() {
		switch {
		case l.ending.asked:
			ended = l.finish()
		case !l.Cluster.Consistent():
			l.Log.Notice("temporary inconsistent cluster state (cfs restart?), skip round")
		default:
			l.doServices()
		}
	}
	l.publish()
	return ended
}

// finish does the last work before the LRM ends.
func (l *LRM) finish() (ended bool) {
	if l.work.run(l.resources); !l.work.done() {
		return false
	}
	if l.mode == ha.ModeRestart {
		if l.seen.ActiveOn(l.Node) > 0 {
			return false
		}
	} else if l.work.stopErrors > 0 {
		// A service may still run: if the node does not go down, the watchdog
		// that stays open resets it.
		return true
	}
	l.release()
	return true
}

func (l *LRM) maintain() (ended bool) {
	if !l.look() {
		return true
	}
	if l.seen.ActiveOn(l.Node) == 0 {
		if l.work.run(l.resources); l.work.done() {
			l.release()
			ended = l.ending.asked
		}
	}
	if !ended {
		l.doServices()
	}
	l.publish()
	return ended
}

// doServices queues a job for every service here that needs one, and works.
func (l *LRM) doServices() {
	l.work.plan(l.seen.Services)
	l.work.run(l.resources)
}

func (l *LRM) resources() map[string]ha.Resource {
	resources, err := l.Store.Resources()
	if err != nil {
		l.Log.Err("unable to read resource configuration: %v", err)
		return nil
	}
	return resources
}

// publish tells the CRM what this LRM is up to.
func (l *LRM) publish() bool {
	if !l.Cluster.Quorate() {
		return false
	}
	err := l.Store.Publish(ha.LRMStatus{
		State:     l.state,
		Mode:      l.mode,
		Results:   maps.Clone(l.work.results),
		Timestamp: l.Cluster.Now(),
	})
	if err != nil {
		l.Log.Err("unable to write lrm status file - %v", err)
		return false
	}
	*l.Announced = true
	return true
}
