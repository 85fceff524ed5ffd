package sim

import (
	"maps"
	"slices"

	"etcpve/agents/ha"
)

// A NodeLook is what a person standing before a simulated node would see.
type NodeLook struct {
	Name           string
	Power, Network bool
	State          ha.NodeState // as the master sees it
	CRM, LRM       string       // their states; "" if they don't run
	Mode           ha.Mode
}

// A ServiceLook is a service as configured, as decided, and as it is.
type ServiceLook struct {
	SID     string
	Node    string // configured
	Request ha.Request
	State   ha.ServiceState // "" if the CRM does not know it
	Target  string
	Lock    string   // kind of its configuration lock
	Running []string // the nodes it really runs on
}

// Disarmed returns whether HA is, or is being, switched off, and in which mode.
func (c *Cluster) Disarmed() (ha.Disarm, bool) {
	if d := c.scenario.Status.Disarm; d != nil {
		return *d, true
	}
	return ha.Disarm{}, false
}

// Nodes returns all nodes in order.
func (c *Cluster) Nodes() (all []NodeLook) {
	for _, name := range c.names {
		n := c.nodes[name]
		l := NodeLook{Name: name, Power: n.Power, Network: n.Network, State: c.scenario.Status.Nodes[name]}
		if n.crm != nil {
			l.CRM = string(n.crm.State())
		}
		if n.lrm != nil {
			l.LRM, l.Mode = string(n.lrm.State()), n.lrm.Mode()
		}
		all = append(all, l)
	}
	return all
}

// Services returns all configured services in order.
func (c *Cluster) Services() (all []ServiceLook) {
	for _, sid := range slices.Sorted(maps.Keys(c.scenario.Resources)) {
		r := c.scenario.Resources[sid]
		l := ServiceLook{SID: sid, Node: r.Node, Request: r.Request, Lock: c.guestLocks[sid]}
		if s := c.scenario.Status.Services[sid]; s != nil {
			l.State, l.Target = s.State, s.Target
		}
		for _, name := range c.names {
			if c.nodes[name].running[sid] {
				l.Running = append(l.Running, name)
			}
		}
		all = append(all, l)
	}
	return all
}
