package sim

import (
	"errors"
	"fmt"
	"maps"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/lrm"
	"etcpve/agents/ha/schedule"
)

// errMount is what every access to the cluster file system gives when it is
// not mounted.
var errMount = errors.New("cfs connection refused - not mounted?")

// node is one simulated node.
type node struct {
	Hardware
	cluster    *Cluster
	name       string
	crm        *crm.CRM
	lrm        *lrm.LRM
	clock      clocks
	dogs       struct{ crm, lrm dog }
	running    map[string]bool
	leave      lrm.Leave // the node is about to go down
	crmStopped bool      // by a command
	faults     struct{ mount, update bool }
}

// clocks are those of a node's CRM and LRM.
type clocks struct{ crm, lrm int64 }

func (k clocks) of(daemon string) int64 {
	if daemon == "crm" {
		return k.crm
	}
	return k.lrm
}

// dog is one client of a node's watchdog.
type dog struct {
	now     *int64
	updated int64
	open    bool
}

func (d *dog) Open() error {
	d.open = true
	d.Update()
	return nil
}

func (d *dog) Update() { d.updated = *d.now }

func (d *dog) Close() { d.open = false }

func (d *dog) expired(now int64) bool { return d.open && now-d.updated > dogPatience }

// logger logs for a daemon by its own clock. Levels have four characters.
func (n *node) logger(daemon string) ha.Log {
	return func(level ha.Level, text string) {
		n.cluster.record(Record{fmt.Sprintf("%.4s", level), n.clock.of(daemon), n.name + "/" + daemon, text})
	}
}

func (n *node) powerOn() {
	if !n.Power {
		n.faults = struct{ mount, update bool }{}
		n.startCRM()
		n.startLRM()
	}
	n.Power, n.Network, n.leave = true, true, ""
}

func (n *node) powerOff() {
	if n.crm != nil {
		n.logger("crm").Info("killed by poweroff")
	}
	if n.lrm != nil {
		n.logger("lrm").Info("killed by poweroff")
	}
	n.crm, n.lrm = nil, nil
	n.dogs = struct{ crm, lrm dog }{}
	clear(n.running)
	n.Power, n.Network, n.leave = false, false, ""
}

func (n *node) startCRM() {
	e := door{n, "crm"}
	n.dogs.crm = dog{now: &n.cluster.now}
	n.crmStopped = false
	log := n.logger("crm")
	n.crm = crm.New(n.name, e, crmStore{e}, e, ha.NewGuard(ha.ManagerLock, e, &n.dogs.crm, log), log)
}

func (n *node) startLRM() {
	e := door{n, "lrm"}
	n.dogs.lrm = dog{now: &n.cluster.now}
	log := n.logger("lrm")
	n.lrm = lrm.New(lrm.Config{
		Node:      n.name,
		Cluster:   e,
		Store:     lrmStore{e},
		Guests:    guests{n, log},
		Guard:     ha.NewGuard(ha.AgentLock(n.name), e, &n.dogs.lrm, log),
		Log:       log,
		Announced: &n.cluster.announced,
	})
}

// door is a daemon's way to the simulated world: the cluster, its locks, and
// the hands of a round.
type door struct {
	*node
	daemon string
}

func (d door) Quorate() bool          { return d.cluster.connected(d.node) }
func (d door) Consistent() bool       { return !d.faults.update }
func (d door) ShutdownPolicy() string { return d.cluster.scenario.Settings.ShutdownPolicy }
func (d door) Now() int64             { return d.clock.of(d.daemon) }

// Try takes a lock that is free, expired or the node's own.
func (d door) Try(name string) ha.Grip {
	if !d.Quorate() {
		return ha.Refused
	}
	now := d.Now()
	held, found := d.cluster.locks[name]
	valid := found && now-held.at <= lockLifetime
	switch {
	case valid && held.node != d.name:
		return ha.Refused
	case valid:
		d.cluster.locks[name] = lock{d.name, now}
		return ha.Renewed
	}
	d.cluster.locks[name] = lock{d.name, now}
	return ha.Taken
}

// Release gives back a lock of the node's own.
func (d door) Release(name string) bool {
	held, found := d.cluster.locks[name]
	if !d.Quorate() || !found || held.node != d.name || d.Now()-held.at > lockLifetime {
		return false
	}
	delete(d.cluster.locks, name)
	return true
}

func (d door) AgentLock(node string) ha.Grip { return d.Try(ha.AgentLock(node)) }

func (d door) GuestLock(sid string) string { return d.cluster.guestLocks[sid] }

func (d door) NewUID() string {
	d.cluster.uids++
	return fmt.Sprintf("simulated-%d", d.cluster.uids)
}

// reach reports whether the files can be accessed from here.
func (d door) reach() error {
	if d.faults.mount {
		return errMount
	}
	return nil
}

// crmStore is the CRM's way to the files.
type crmStore struct{ door }

func (s crmStore) View() (crm.View, error) {
	c := s.cluster
	if err := s.reach(); err != nil {
		return crm.View{}, err
	}
	v := crm.View{
		Node:      s.name,
		Now:       s.Now(),
		Status:    c.scenario.Status,
		Members:   map[string]crm.Member{},
		LRMs:      c.lrms,
		Resources: c.scenario.Resources,
		Services:  c.measure(),
		Rules:     c.scenario.Rules,
		Groups:    c.scenario.Groups,
		Settings:  c.scenario.Settings,
		Commands:  c.commands,
	}
	for name, n := range c.nodes {
		v.Members[name] = crm.Member{Connected: c.connected(n), Version: n.Version, Node: n.Hardware.Node}
	}
	return v, nil
}

func (s crmStore) Commit(out crm.Outcome) error {
	if err := s.reach(); err != nil {
		return err
	}
	c := s.cluster
	for _, change := range out.Changes {
		c.change(change)
	}
	c.scenario.Status = out.Status
	c.commands = c.commands[out.Commands:]
	return nil
}

// change carries out what a round wants changed besides the status.
func (c *Cluster) change(change crm.Change) {
	resources := c.scenario.Resources
	switch change := change.(type) {
	case crm.Steal:
		r := resources[change.SID]
		r.Node = change.To
		resources[change.SID] = r
		if change.Unlock {
			delete(c.guestLocks, change.SID)
		}
	case crm.SetRequest:
		r := resources[change.SID]
		r.Request = change.Request
		resources[change.SID] = r
	case crm.ConvertGroups:
		c.scenario.Rules, c.scenario.Groups = change.Rules, ""
		for sid, failback := range change.Failback {
			r := resources[sid]
			r.Group, r.Failback = "", failback
			resources[sid] = r
		}
	}
}

// lrmStore is the LRM's way to the files.
type lrmStore struct{ door }

func (s lrmStore) Status() (ha.ManagerStatus, error) {
	if err := s.reach(); err != nil {
		return ha.ManagerStatus{}, err
	}
	return s.cluster.scenario.Status, nil
}

func (s lrmStore) Resources() (map[string]ha.Resource, error) {
	if err := s.reach(); err != nil {
		return nil, err
	}
	return maps.Clone(s.cluster.scenario.Resources), nil
}

func (s lrmStore) Publish(status ha.LRMStatus) error {
	if err := s.reach(); err != nil {
		return err
	}
	s.cluster.lrms[s.name] = status
	return nil
}

// measure returns the figures of all services, and where they really run.
func (c *Cluster) measure() map[string]schedule.Service {
	stats := make(map[string]schedule.Service, len(c.scenario.Resources))
	for sid, r := range c.scenario.Resources {
		s, known := c.scenario.Stats[sid]
		if !known {
			s = defaultStats
		}
		if n := c.nodes[r.Node]; n != nil && n.running[sid] {
			s.On = r.Node
		}
		stats[sid] = s
	}
	return stats
}
