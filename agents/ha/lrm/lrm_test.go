package lrm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/ha"
)

// node is everything an LRM sees of the world.
type node struct {
	quorate, consistent bool
	policy              string
	now                 int64
	status              ha.ManagerStatus
	readErr             error
	resources           map[string]ha.Resource
	published           ha.LRMStatus
	grip                ha.Grip
	dog                 []string
	running             map[string]bool
	stuck               map[string]bool // guests that neither start nor stop
	log                 []string
	announced           bool
}

func (n *node) Quorate() bool                              { return n.quorate }
func (n *node) Consistent() bool                           { return n.consistent }
func (n *node) ShutdownPolicy() string                     { return n.policy }
func (n *node) Now() int64                                 { return n.now }
func (n *node) Status() (ha.ManagerStatus, error)          { return n.status.Clone(), n.readErr }
func (n *node) Resources() (map[string]ha.Resource, error) { return n.resources, n.readErr }
func (n *node) Publish(s ha.LRMStatus) error               { n.published = s; return n.readErr }
func (n *node) Try(string) ha.Grip                         { return n.grip }
func (n *node) Release(string) bool                        { n.dog = append(n.dog, "release"); return true }
func (n *node) Open() error                                { n.dog = append(n.dog, "open"); return nil }
func (n *node) Update()                                    {}
func (n *node) Close()                                     { n.dog = append(n.dog, "close") }
func (n *node) Running(sid string) bool                    { return n.running[sid] }

func (n *node) Start(sid string) error {
	if n.stuck[sid] {
		return errors.New("stuck")
	}
	n.running[sid] = true
	return nil
}

func (n *node) Stop(sid string, _ *int) error {
	if n.stuck[sid] {
		return errors.New("stuck")
	}
	delete(n.running, sid)
	return nil
}

func (n *node) Move(sid, target string, _ bool) error {
	if n.stuck[sid] {
		return errors.New("stuck")
	}
	delete(n.running, sid)
	r := n.resources[sid]
	r.Node = target
	n.resources[sid] = r
	return nil
}

// newNode has a healthy LRM on n1 with the given services on it.
func newNode(services map[string]ha.Service) (*node, *LRM) {
	n := &node{
		quorate: true, consistent: true, policy: "conditional", grip: ha.Renewed,
		status:    ha.ManagerStatus{Services: map[string]*ha.Service{}, Nodes: map[string]ha.NodeState{"n1": ha.Online}},
		resources: map[string]ha.Resource{}, running: map[string]bool{}, stuck: map[string]bool{},
	}
	for sid, s := range services {
		s.Node = "n1"
		if s.UID == "" {
			s.UID = "uid-" + sid
		}
		n.status.Services[sid] = &s
		r := ha.DefaultResource
		r.Node = "n1"
		n.resources[sid] = r
	}
	log := func(_ ha.Level, text string) { n.log = append(n.log, text) }
	return n, New(Config{Node: "n1", Cluster: n, Store: n, Guests: n, Guard: ha.NewGuard("l", n, n, log), Log: log, Announced: &n.announced})
}

func (n *node) codes() string {
	var all []string
	for uid, r := range n.published.Results {
		all = append(all, fmt.Sprintf("%s=%d", uid, r.Code))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestJobsHaveTheirOutcome(t *testing.T) {
	timeout := 7
	for name, c := range map[string]struct {
		service ha.Service
		prepare func(*node)
		steps   int
		codes   string
		last    string // of the log
	}{
		"start":   {ha.Service{State: ha.Started}, nil, 1, "uid-vm:1=0", "service status vm:1 started"},
		"started": {ha.Service{State: ha.Started}, func(n *node) { n.running["vm:1"] = true }, 1, "uid-vm:1=0", "status change wait_for_agent_lock => active"},
		"retry":   {ha.Service{State: ha.Started}, func(n *node) { n.stuck["vm:1"] = true }, 1, "", "restart policy: retry number 1 for service 'vm:1'"},
		"give up": {ha.Service{State: ha.Started}, func(n *node) { n.stuck["vm:1"] = true }, 2, "uid-vm:1=1", "unable to start service vm:1 on local node after 1 retries"},
		"stop":    {ha.Service{State: ha.RequestStop, Timeout: &timeout}, func(n *node) { n.running["vm:1"] = true }, 1, "uid-vm:1=0", "service status vm:1 stopped"},
		"stuck": {ha.Service{State: ha.RequestStop}, func(n *node) { n.running["vm:1"], n.stuck["vm:1"] = true, true }, 1,
			"uid-vm:1=1", "unable to stop service vm:1 (still running)"},
		"migrate":       {ha.Service{State: ha.Migrate, Target: "n2"}, nil, 1, "uid-vm:1=0", "status change wait_for_agent_lock => active"},
		"not moved":     {ha.Service{State: ha.Relocate, Target: "n2"}, func(n *node) { n.stuck["vm:1"] = true }, 1, "uid-vm:1=1", "service vm:1 not moved (migration error)"},
		"runs already":  {ha.Service{State: ha.RequestStartBalance, Target: "n2"}, func(n *node) { n.running["vm:1"] = true }, 1, "uid-vm:1=8", "ignoring rebalance-on-start for service vm:1 - already running"},
		"elsewhere":     {ha.Service{State: ha.Started}, func(n *node) { n.resources["vm:1"] = ha.Resource{Node: "n2"} }, 1, "uid-vm:1=3", "service 'vm:1' not on this node"},
		"no config":     {ha.Service{State: ha.Started}, func(n *node) { delete(n.resources, "vm:1") }, 1, "uid-vm:1=7", "missing resource configuration for 'vm:1'"},
		"inconsistent":  {ha.Service{State: ha.Started}, func(n *node) { n.consistent = false }, 1, "", "temporary inconsistent cluster state (cfs restart?), skip round"},
		"not quorate":   {ha.Service{State: ha.Started}, func(n *node) { n.quorate = false }, 1, "", "status change startup => wait_for_agent_lock"},
		"lock is taken": {ha.Service{State: ha.Started}, func(n *node) { n.grip = ha.Refused }, 1, "", "status change startup => wait_for_agent_lock"},
		"freeze":        {ha.Service{State: ha.Freeze}, nil, 1, "", "status change startup => wait_for_agent_lock"},
	} {
		n, l := newNode(map[string]ha.Service{"vm:1": c.service})
		if c.prepare != nil {
			c.prepare(n)
		}
		for range c.steps {
			l.Step()
		}
		if got := n.codes(); got != c.codes {
			t.Errorf("%s: results %q, want %q", name, got, c.codes)
		}
		if got := n.log[len(n.log)-1]; got != c.last {
			t.Errorf("%s: log %q, want %q at its end", name, n.log, c.last)
		}
	}
}

func TestResultsGoWithTheirUID(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	n.status.Services["vm:1"].UID = "new"
	delete(n.running, "vm:1")
	l.Step()
	if got := n.codes(); got != "new=0" || !n.running["vm:1"] {
		t.Errorf("results %q, running %v", got, n.running)
	}
}

func TestTheLockIsLostBeforeAnythingElse(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	n.grip = ha.Refused
	n.status.Services["vm:1"].UID, n.running = "new", map[string]bool{}
	l.Step()
	if l.State() != ha.LRMLost || n.running["vm:1"] {
		t.Errorf("state %s, running %v", l.State(), n.running)
	}
	if slices.Contains(n.dog, "close") {
		t.Error("the watchdog was closed although services may run")
	}
	n.grip = ha.Renewed
	n.status.Nodes["n1"] = ha.Fencing
	if l.Step(); l.State() != ha.LRMLost {
		t.Error("got the lock back although the node is to be fenced")
	}
}

func TestShutdownFollowsThePolicy(t *testing.T) {
	for _, c := range []struct {
		policy string
		mode   ha.Mode
		why    Leave
		want   ha.Mode
		stops  bool
	}{
		{"conditional", ha.ModeActive, Reboot, ha.ModeRestart, true},
		{"conditional", ha.ModeActive, Shutdown, ha.ModeShutdown, true},
		{"freeze", ha.ModeActive, Shutdown, ha.ModeRestart, true},
		{"failover", ha.ModeActive, Reboot, ha.ModeShutdown, true},
		{"migrate", ha.ModeActive, Shutdown, ha.ModeMaintenance, false},
		{"migrate", ha.ModeMaintenance, Shutdown, ha.ModeMaintenance, false},
		{"freeze", ha.ModeMaintenance, Reboot, ha.ModeMaintenance, true},
		{"failover", ha.ModeActive, Restart, ha.ModeRestart, false},
	} {
		n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
		l.Step()
		n.policy, l.mode = c.policy, c.mode
		l.Stop(c.why)
		l.Stop(Reboot) // the first request counts
		why, asked := l.Ending()
		if l.Mode() != c.want || n.published.Mode != c.want || why != c.why || !asked {
			t.Errorf("%+v: mode %s, published %s, ending %s %v", c, l.Mode(), n.published.Mode, why, asked)
		}
		if got := len(l.work.queue) > 0; got != c.stops {
			t.Errorf("%+v: %d jobs queued", c, len(l.work.queue))
		}
	}
}

func TestAStuckServiceKeepsTheWatchdogOpen(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	n.stuck["vm:1"] = true
	l.Stop(Shutdown)
	if !l.Step() || slices.Contains(n.dog, "close") || slices.Contains(n.dog, "release") {
		t.Errorf("watchdog and lock: %v", n.dog)
	}
}

func TestRestartWaitsForServicesOnTheirWay(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	l.Stop(Restart)
	if l.Step() {
		t.Fatal("ended before the CRM froze the service")
	}
	n.status.Services["vm:1"].State = ha.Freeze
	if !l.Step() || !n.running["vm:1"] || fmt.Sprint(n.dog) != "[open close release]" {
		t.Errorf("running %v, watchdog and lock %v", n.running, n.dog)
	}
}

func TestAnIdleLRMGivesItsLockBack(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	clear(n.status.Services)
	for range idleRounds {
		l.Step()
	}
	if l.State() != ha.LRMActive {
		t.Fatal("too early")
	}
	if l.Step(); l.State() != ha.LRMWait || fmt.Sprint(n.dog) != "[open close release]" {
		t.Errorf("state %s, watchdog and lock %v", l.State(), n.dog)
	}
}

func TestARestartGivesUpALostLock(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}})
	l.Step()
	n.grip = ha.Refused
	l.Step()
	l.Stop(Restart)
	n.now += giveUpAfter
	if l.Step() {
		t.Fatal("too early")
	}
	n.now++
	if !l.Step() || n.log[len(n.log)-1] != "lost agent lock and restart request for over 90 seconds - giving up!" {
		t.Errorf("%q", n.log)
	}
}

// slow are guests that take their time to start.
type slow struct {
	*node
	entered, leave chan string
}

func (s slow) Running(string) bool { return false }

func (s slow) Start(sid string) error {
	s.entered <- sid
	<-s.leave
	return errors.New("stuck")
}

func TestWorkersLeaveTheLRMFree(t *testing.T) {
	n, l := newNode(map[string]ha.Service{"vm:1": {State: ha.Started}, "vm:2": {State: ha.Started}, "vm:3": {State: ha.Started}})
	g := slow{n, make(chan string), make(chan string)}
	l.work = newWork("n1", g, func(ha.Level, string) {}, 2)
	l.Step() // returns although two guests are starting
	got := []string{<-g.entered, <-g.entered}
	slices.Sort(got)
	if fmt.Sprint(got) != "[vm:1 vm:2]" {
		t.Errorf("started %v", got)
	}
	l.Stop(Shutdown)
	if l.Step() {
		t.Error("ended while guests are starting")
	}
	g.leave <- ""
	g.leave <- ""
	l.Wait()
	// The failed starts are not tried again: the node shuts down. Nothing runs,
	// so the three stop jobs need no guest.
	for range 3 {
		if l.Step() {
			l.Wait()
			break
		}
		l.Wait()
	}
	if !slices.Contains(n.dog, "release") || l.work.tries["vm:1"] != 1 {
		t.Errorf("watchdog and lock %v, tries %v", n.dog, l.work.tries)
	}
}
