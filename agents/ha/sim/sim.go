// Package sim runs the CRMs and LRMs of a whole cluster on virtual hardware and
// in virtual time.
//
// It owns scenarios, the simulated nodes with their watchdogs, locks, files and
// guests, the commands that happen to them, and the log of it all. Nothing in
// it runs in parallel and no real time passes, so one scenario always gives one
// log. It decides nothing: that is done by the same crm and lrm that run on
// real nodes.
package sim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/lrm"
)

const (
	roundLength  = 20    // seconds, or two per node if that is more
	lockLifetime = 120   // seconds a lock outlives its last renewal
	dogPatience  = 60    // seconds a watchdog waits for an update
	longestRun   = 10000 // seconds after which a run has failed
	groupRounds  = 5     // rounds from one group of commands to the next
	quietEnd     = 500   // seconds without a command that end a run
)

// A Record is one line of the log.
type Record struct {
	Level  string
	Time   int64
	Source string
	Text   string
}

func (r Record) String() string {
	return fmt.Sprintf("%-5s %5d %12s: %s", r.Level, r.Time, r.Source, strings.TrimSuffix(r.Text, "\n"))
}

// A Cluster is a simulated cluster. Its methods are called by one goroutine.
type Cluster struct {
	scenario   Scenario // status, resources, rules, groups and stats change
	record     func(Record)
	now        int64
	names      []string
	nodes      map[string]*node
	locks      map[string]lock
	lrms       map[string]ha.LRMStatus
	commands   []string          // queued for the CRM
	guestLocks map[string]string // kind of configuration lock by service
	failures   map[attempt]int   // of services made to fail
	announced  bool              // an LRM has written its status
	uids       int
	skip       map[string]int // rounds to skip: crm, lrm
	waitUntil  int64          // end of a delay
}

// lock is who renewed a cluster lock last, and when by its own clock.
type lock struct {
	node string
	at   int64
}

// New returns a cluster at time 0. Everything it logs goes to record.
func New(s Scenario, record func(Record)) *Cluster {
	s.Status = s.Status.Clone()
	s.Resources, s.Stats = maps.Clone(s.Resources), maps.Clone(s.Stats)
	c := &Cluster{
		scenario:   s,
		record:     record,
		names:      slices.Sorted(maps.Keys(s.Hardware)),
		nodes:      map[string]*node{},
		locks:      map[string]lock{},
		lrms:       map[string]ha.LRMStatus{},
		guestLocks: map[string]string{},
		failures:   map[attempt]int{},
		skip:       map[string]int{},
	}
	for name, h := range s.Hardware {
		c.nodes[name] = &node{cluster: c, name: name, Hardware: h, running: map[string]bool{}}
	}
	c.log(ha.Info, "hardware", "starting simulation")
	return c
}

// Run runs a scenario to its end and writes the log.
func Run(s Scenario, w io.Writer) error {
	var failed error
	c := New(s, func(r Record) {
		if _, err := fmt.Fprintln(w, r); err != nil && failed == nil {
			failed = err
		}
	})
	if err := c.play(s.Commands); err != nil {
		c.log(ha.Err, "hardware", fmt.Sprintf("exit simulation - %v ", err))
		return err
	}
	c.log(ha.Info, "hardware", "exit simulation - done")
	return failed
}

// play runs rounds until all groups of commands have been executed and things
// have settled. Every fifth round, not counting those of a delay, it is time for
// the next group.
func (c *Cluster) play(groups [][]string) error {
	var lastCommand int64
	for rounds := 0; ; {
		if err := c.Round(); err != nil {
			return err
		}
		if c.now > longestRun {
			return errors.New("simulation takes too long")
		}
		if c.now < c.waitUntil {
			continue
		}
		rounds++
		switch due := rounds%groupRounds == 1; {
		case !due:
		case len(groups) > 0:
			if err := c.executeAll("cmdlist", groups[0]...); err != nil {
				return err
			}
			if len(groups[0]) > 0 {
				lastCommand = c.now
			}
			groups = groups[1:]
		case c.now-lastCommand > quietEnd:
			return nil
		}
	}
}

// Round lets every CRM and LRM do one iteration.
func (c *Cluster) Round() error {
	start := c.now
	for _, name := range c.names {
		n := c.nodes[name]
		if err := c.stepCRM(n); err != nil {
			return err
		}
		if err := c.stepLRM(n); err != nil {
			return err
		}
		if err := c.checkWatchdogs(); err != nil {
			return err
		}
	}
	for what := range c.skip {
		c.skip[what] = max(c.skip[what]-1, 0)
	}
	c.now = max(c.now, start+max(roundLength, 2*int64(len(c.names))))
	for _, n := range c.nodes {
		n.clock = clocks{c.now, c.now}
	}
	return nil
}

// Now returns the global time in seconds.
func (c *Cluster) Now() int64 { return c.now }

func (c *Cluster) log(level ha.Level, source, text string) {
	c.record(Record{string(level), c.now, source, text})
}

// skipping reports whether a daemon of a node has to pass this round.
func (c *Cluster) skipping(n *node, what, name string, exists bool) bool {
	if c.skip[what] == 0 {
		return false
	}
	if n.name == c.names[0] && exists {
		c.log(ha.Info, "run-loop", "skipping "+name+" round")
	}
	return true
}

func (c *Cluster) stepCRM(n *node) error {
	if c.skipping(n, "crm", "CRM", n.crm != nil) || n.crm == nil {
		return nil
	}
	n.clock.crm = c.now
	ended := n.crm.Step()
	n.clock.crm++
	c.now = max(c.now, n.clock.crm)
	if !ended {
		return nil
	}
	n.logger("crm").Info("exit (loop end)")
	n.crm = nil
	n.dogs.crm.Close()
	switch {
	case n.leave == lrm.Reboot:
		return c.executeAll(string(n.leave), "power "+n.name+" off", "power "+n.name+" on")
	case n.leave == lrm.Shutdown:
		return c.Execute(string(n.leave), "power "+n.name+" off")
	case !n.crmStopped:
		return fmt.Errorf("node '%s': CRM ended unasked", n.name)
	}
	return nil
}

func (c *Cluster) stepLRM(n *node) error {
	if c.skipping(n, "lrm", "LRM", n.lrm != nil) || n.lrm == nil {
		return nil
	}
	n.clock.lrm = c.now
	ended := n.lrm.Step()
	n.clock.lrm++
	c.now = max(c.now, n.clock.lrm)
	if !ended {
		return nil
	}
	n.logger("lrm").Info("exit (loop end)")
	why, _ := n.lrm.Ending()
	n.lrm = nil
	switch {
	case why == lrm.Restart:
		n.startLRM()
	case n.leave != "":
		return c.Execute(string(n.leave), "crm "+n.name+" stop")
	default:
		return fmt.Errorf("node '%s': LRM ended unasked", n.name)
	}
	return nil
}

// checkWatchdogs powers off the nodes whose watchdogs have waited too long.
func (c *Cluster) checkWatchdogs() error {
	for _, name := range c.names {
		n := c.nodes[name]
		if !n.Power || !n.dogs.crm.expired(c.now) && !n.dogs.lrm.expired(c.now) {
			continue
		}
		if err := c.Execute("watchdog", "power "+name+" off"); err != nil {
			return err
		}
		c.log(ha.Info, "hardware", "server '"+name+"' stopped by poweroff (watchdog)")
	}
	return nil
}

// quorate reports whether the majority of the nodes is connected.
func (c *Cluster) quorate() bool {
	connected := 0
	for _, n := range c.nodes {
		if n.Power && n.Network {
			connected++
		}
	}
	return connected > len(c.nodes)/2
}

// connected reports whether a node belongs to the majority.
func (c *Cluster) connected(n *node) bool { return n.Power && n.Network && c.quorate() }

// Master returns the node whose CRM leads, or "".
func (c *Cluster) Master() string {
	for _, name := range c.names {
		if m := c.nodes[name].crm; m != nil && m.State() == crm.Master {
			return name
		}
	}
	return ""
}
