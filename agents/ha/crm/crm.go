package crm

import (
	"etcpve/agents/ha"
)

// A State is where a CRM stands between waiting and deciding.
type State string

// The states of a CRM.
const (
	Starting State = "startup"
	Waiting  State = "wait_for_quorum"
	Slave    State = "slave"
	Master   State = "master"
	Lost     State = "lost_manager_lock"
)

// idleRounds is how many rounds a master stays without any service.
const idleRounds = 90

// Cluster is what a CRM must know of its node's place in the cluster.
type Cluster interface {
	// Quorate reports whether this node belongs to the majority.
	Quorate() bool
	// Consistent reports whether the cluster file system answers with what the
	// cluster agreed on.
	Consistent() bool
}

// Store is the way to the files under /etc/pve.
type Store interface {
	// View reads everything a round may know.
	View() (View, error)
	// Commit makes the changes of a round, writes its status, and then drops
	// the commands it has read.
	Commit(Outcome) error
}

// A CRM is one node's cluster resource manager. Its methods are called by one
// goroutine.
type CRM struct {
	node    string
	cluster Cluster
	store   Store
	hands   Hands
	guard   *ha.Guard
	log     ha.Log

	state    State
	memory   Memory
	idle     int  // rounds as a master without a service
	disarmed bool // the watchdog stays closed
	stopping bool
}

// New returns a CRM that waits for quorum. The guard holds ha.ManagerLock.
func New(node string, cluster Cluster, store Store, hands Hands, guard *ha.Guard, log ha.Log) *CRM {
	c := &CRM{node: node, cluster: cluster, store: store, hands: hands, guard: guard, log: log, state: Starting}
	c.enter(Waiting)
	return c
}

// State returns the CRM's state.
func (c *CRM) State() State { return c.state }

// Stop asks the CRM to end at its next step.
func (c *CRM) Stop() {
	if !c.stopping {
		c.log.Info("server received shutdown request")
		c.stopping = true
	}
}

// A look is what a step sees of the files; they are read at most once.
type look struct {
	read func() (View, error)
	view View
	err  error
	done bool
}

func (l *look) get() (*View, error) {
	if !l.done {
		l.view, l.err = l.read()
		l.done = true
	}
	return &l.view, l.err
}

// Step does one iteration. It reports whether the CRM has ended.
func (c *CRM) Step() (ended bool) {
	l := &look{read: c.store.View}
	c.transit(l)
	switch c.state {
	case Lost:
		c.guard.Unwatch()
		if !c.stopping {
			c.enter(Waiting)
		}
		return c.stopping
	case Master:
		return c.lead(l)
	}
	return c.stopping
}

func (c *CRM) enter(s State) {
	c.log.Info("status change %s => %s", c.state, s)
	c.state = s
	c.idle = 0
	c.disarmed = c.disarmed && s == Master
}

// transit changes the state as locks and health ask for.
func (c *CRM) transit(l *look) {
	switch c.state {
	case Waiting, Slave:
		switch {
		case !c.able(l):
			if c.state == Slave {
				c.enter(Waiting)
			}
		case c.hold(l):
			c.succeed(l)
		case c.state == Waiting:
			c.enter(Slave)
		}
	case Lost:
		if c.healthy(l) && c.hold(l) {
			c.succeed(l)
		}
	case Master:
		switch {
		case !c.hold(l):
			c.enter(Lost)
		case !c.mayIdle(l):
			c.idle = 0
		case c.idle < idleRounds:
			c.idle++
		default:
			c.log.Info("cluster had no service configured for %d rounds, going idle.", idleRounds)
			c.guard.Unwatch()
			c.guard.Unlock()
			c.enter(Waiting)
		}
	}
}

// healthy reports whether this node may decide.
func (c *CRM) healthy(l *look) bool {
	if !c.cluster.Quorate() || !c.cluster.Consistent() {
		return false
	}
	v, err := l.get()
	if err != nil {
		c.log.Err("could not read manager status: %v", err)
		return false
	}
	return !v.Status.FencesServiceOn(c.node)
}

// able reports whether this node may decide and there is something to decide.
func (c *CRM) able(l *look) bool {
	if !c.healthy(l) {
		return false
	}
	v, _ := l.get()
	return len(v.Resources) > 0 || masterless(v) && unfinished(v)
}

// masterless reports whether nobody else seems to lead.
func masterless(v *View) bool {
	m := v.Status.Master
	return m == "" || m == v.Node || v.Status.Nodes[m] != ha.Online
}

// unfinished reports whether there is work without any service configured.
func unfinished(v *View) bool {
	for node, s := range v.Status.Nodes {
		if s == ha.Maintenance && !bool(v.Status.Requests[node].Maintenance) {
			return true
		}
	}
	return len(v.Commands) > 0 || len(v.Status.Services) > 0 || v.Status.Disarm != nil
}

func (c *CRM) mayIdle(l *look) bool {
	if !c.healthy(l) {
		return false
	}
	v, _ := l.get()
	return len(v.Resources) == 0 && len(v.Status.Services) == 0 && v.Status.Disarm == nil
}

// hold takes or renews the lock, and opens the watchdog unless HA is disarmed.
func (c *CRM) hold(l *look) bool {
	if !c.guard.Lock() {
		return false
	}
	if c.disarmed || c.guard.Watching() {
		return true
	}
	if v, err := l.get(); c.state != Master && err == nil && v.Status.Disarmed() {
		c.log.Info("taking over as disarmed master, skipping watchdog")
		c.disarmed = true
		return true
	}
	return c.guard.Watch()
}

func (c *CRM) succeed(l *look) {
	c.enter(Master)
	v, err := l.get()
	if err != nil { // can't be: only the healthy succeed
		c.log.Err("could not read manager status: %v", err)
		return
	}
	c.memory = Succeed(v.Status, v.Settings, c.log)
}

// lead does the work of a master.
func (c *CRM) lead(l *look) (ended bool) {
	if c.stopping {
		c.guard.Unwatch()
		c.log.Info("voluntary release CRM lock")
		if !c.guard.Unlock() {
			c.log.Notice("CRM lock release failed, let the lock timeout")
		}
		return true
	}
	if !c.cluster.Consistent() {
		c.log.Notice("temporary inconsistent cluster state (cfs restart?), skip round")
		return false
	}
	v, err := l.get()
	if err != nil {
		c.log.Err("got unexpected error - %v", err)
		return false
	}
	memory, out := c.memory.Round(*v, c.hands)
	for _, line := range out.Lines {
		c.log(line.Level, line.Text)
	}
	if !out.Offline {
		if err := c.store.Commit(out); err != nil {
			c.log.Err("got unexpected error - %v", err)
			return false
		}
	}
	c.memory = memory
	c.followDisarm()
	return false
}

// followDisarm closes the watchdog once HA is disarmed, and lets it be opened
// when it is armed again.
func (c *CRM) followDisarm() {
	switch disarmed := c.memory.status.Disarmed(); {
	case disarmed && !c.disarmed:
		c.log.Info("HA stack fully disarmed, releasing CRM watchdog")
		c.guard.Unwatch()
		c.disarmed = true
	case !disarmed && c.disarmed:
		c.log.Info("re-arming HA stack")
		c.disarmed = false
	}
}
