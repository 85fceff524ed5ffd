package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/lrm"
	"etcpve/agents/ha/schedule"
)

// nodeCommands are the commands of the form VERB NODE ARGUMENTS.
var nodeCommands = map[string]func(c *Cluster, n *node, args []string) error{
	"power":               (*Cluster).power,
	"network":             (*Cluster).network,
	"cfs":                 (*Cluster).cfs,
	"crm":                 (*Cluster).controlCRM,
	"reboot":              leaving(lrm.Reboot),
	"shutdown":            leaving(lrm.Shutdown),
	"restart-lrm":         leaving(lrm.Restart),
	"pve-manager-version": (*Cluster).setVersion,
}

// serviceCommands are the commands of the form service SID VERB ARGUMENTS.
var serviceCommands = map[string]func(c *Cluster, sid string, args []string) error{
	"started":           requesting(ha.WantStarted),
	"stopped":           requesting(ha.WantStopped),
	"disabled":          requesting(ha.WantDisabled),
	"ignored":           requesting(ha.WantIgnored),
	"migrate":           moving("migrate"),
	"relocate":          moving("relocate"),
	"stop":              (*Cluster).queueStop,
	"add":               (*Cluster).addService,
	"delete":            (*Cluster).deleteService,
	"lock":              (*Cluster).lockService,
	"unlock":            (*Cluster).unlockService,
	"manual-migrate":    (*Cluster).moveByHand,
	"set-static-stats":  setting(map[string]figure{"maxcpu": setMaxCPU, "maxmem": setMaxMem}),
	"set-dynamic-stats": setting(map[string]figure{"cpu": setCPU, "mem": setMem}),
}

// Execute carries out one command and logs it with the source it came from.
func (c *Cluster) Execute(source, command string) error {
	c.log(ha.Info, source, "execute "+command)
	words := strings.Fields(command)
	if len(words) < 2 {
		return fmt.Errorf("command '%s': too short", command)
	}
	if err := c.dispatch(words[0], words[1], words[2:]); err != nil {
		return fmt.Errorf("command '%s': %w", command, err)
	}
	return nil
}

func (c *Cluster) executeAll(source string, commands ...string) error {
	for _, command := range commands {
		if err := c.Execute(source, command); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) dispatch(verb, object string, args []string) error {
	switch verb {
	case "delay":
		seconds, err := strconv.Atoi(object)
		c.waitUntil = c.now + int64(seconds)
		return err
	case "skip-round":
		return c.skipRounds(object, args)
	case "service":
		if len(args) == 0 || serviceCommands[args[0]] == nil {
			return fmt.Errorf("unknown service command")
		}
		return serviceCommands[args[0]](c, object, args[1:])
	}
	do := nodeCommands[verb]
	if do == nil {
		return fmt.Errorf("unknown command")
	}
	n := c.nodes[object]
	if n == nil {
		return fmt.Errorf("no such node")
	}
	return do(c, n, args)
}

func (c *Cluster) skipRounds(what string, args []string) error {
	if what != "crm" && what != "lrm" {
		return fmt.Errorf("neither crm nor lrm")
	}
	count := 1
	if len(args) > 0 {
		var err error
		if count, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	c.skip[what] += count
	return nil
}

// choice runs the function of the word the arguments consist of.
func choice(args []string, choices map[string]func()) error {
	do := choices[strings.Join(args, " ")]
	if do == nil {
		return fmt.Errorf("arguments are none of: %s", strings.Join(slices.Sorted(maps.Keys(choices)), ", "))
	}
	do()
	return nil
}

func (c *Cluster) power(n *node, args []string) error {
	return choice(args, map[string]func(){"on": n.powerOn, "off": n.powerOff})
}

func (c *Cluster) network(n *node, args []string) error {
	return choice(args, map[string]func(){
		"on":  func() { n.Network = true },
		"off": func() { n.Network = false },
	})
}

func (c *Cluster) cfs(n *node, args []string) error {
	return choice(args, map[string]func(){
		"rw work":     func() { n.faults.mount = false },
		"rw fail":     func() { n.faults.mount = true },
		"update work": func() { n.faults.update = false },
		"update fail": func() { n.faults.update = true },
	})
}

func (c *Cluster) controlCRM(n *node, args []string) error {
	queue := func(words ...string) func() {
		return func() { c.commands = append(c.commands, strings.Join(words, " ")) }
	}
	return choice(args, map[string]func(){
		"stop":                     n.stopCRM,
		"start":                    n.ensureCRM,
		"enable-node-maintenance":  queue("enable-node-maintenance", n.name),
		"disable-node-maintenance": queue("disable-node-maintenance", n.name),
		"disarm-ha freeze":         queue("disarm-ha", "freeze"),
		"disarm-ha ignore":         queue("disarm-ha", "ignore"),
		"arm-ha":                   queue("arm-ha"),
	})
}

func (n *node) stopCRM() {
	if n.crm != nil {
		n.crmStopped = true
		n.crm.Stop()
	}
}

func (n *node) ensureCRM() {
	if n.crm == nil {
		n.startCRM()
	}
}

// leaving asks a node's LRM to end; the node follows unless only the LRM
// restarts.
func leaving(why lrm.Leave) func(*Cluster, *node, []string) error {
	return func(_ *Cluster, n *node, _ []string) error {
		if why != lrm.Restart {
			n.leave = why
		}
		if n.lrm != nil {
			n.lrm.Stop(why)
		}
		return nil
	}
}

func (c *Cluster) setVersion(n *node, args []string) error {
	if len(args) != 2 || args[0] != "set" {
		return fmt.Errorf("arguments are not: set VERSION")
	}
	n.Version = args[1]
	return nil
}

// configured changes the configuration of a service that has one.
func (c *Cluster) configured(sid string, change func(*ha.Resource)) error {
	r, found := c.scenario.Resources[sid]
	if !found {
		return fmt.Errorf("no such service")
	}
	change(&r)
	c.scenario.Resources[sid] = r
	return nil
}

// target returns the node named by the first argument.
func (c *Cluster) target(args []string) (string, error) {
	if len(args) == 0 || c.nodes[args[0]] == nil {
		return "", fmt.Errorf("no such node")
	}
	return args[0], nil
}

func requesting(state ha.Request) func(*Cluster, string, []string) error {
	return func(c *Cluster, sid string, _ []string) error {
		return c.configured(sid, func(r *ha.Resource) { r.Request = state })
	}
}

func moving(verb string) func(*Cluster, string, []string) error {
	return func(c *Cluster, sid string, args []string) error {
		node, err := c.target(args)
		if err == nil {
			c.commands = append(c.commands, verb+" "+sid+" "+node)
		}
		return err
	}
}

func (c *Cluster) queueStop(sid string, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("arguments are not: TIMEOUT")
	}
	c.commands = append(c.commands, "stop "+sid+" "+args[0])
	return nil
}

func (c *Cluster) addService(sid string, args []string) error {
	node, err := c.target(args)
	if err != nil {
		return err
	}
	if _, found := c.scenario.Resources[sid]; found {
		return fmt.Errorf("service exists already")
	}
	r := ha.DefaultResource
	r.Node = node
	if len(args) > 1 {
		var known bool
		if r.Request, known = ha.ParseRequest(args[1]); !known {
			return fmt.Errorf("unknown state '%s'", args[1])
		}
	}
	c.scenario.Resources[sid] = r
	if len(args) > 2 && args[2] != "0" {
		c.nodes[node].running[sid] = true
	}
	return nil
}

func (c *Cluster) deleteService(sid string, _ []string) error {
	if _, found := c.scenario.Resources[sid]; !found {
		return fmt.Errorf("no such service")
	}
	delete(c.scenario.Resources, sid)
	delete(c.guestLocks, sid)
	return nil
}

func (c *Cluster) lockService(sid string, args []string) error {
	kind := "backup"
	if len(args) > 0 {
		kind = args[0]
	}
	return c.configured(sid, func(*ha.Resource) { c.guestLocks[sid] = kind })
}

func (c *Cluster) unlockService(sid string, args []string) error {
	return c.configured(sid, func(*ha.Resource) {
		if len(args) == 0 || args[0] == c.guestLocks[sid] {
			delete(c.guestLocks, sid)
		}
	})
}

// moveByHand does what an operator may do to services HA does not care for.
func (c *Cluster) moveByHand(sid string, args []string) error {
	node, err := c.target(args)
	if err != nil {
		return err
	}
	d := c.scenario.Status.Disarm
	if c.scenario.Resources[sid].Request != ha.WantIgnored && (d == nil || d.Mode != ha.DisarmIgnore) {
		return fmt.Errorf("service is managed by HA")
	}
	return c.configured(sid, func(r *ha.Resource) { r.Node = node })
}

// A figure changes one of the figures of a service.
type figure func(s *schedule.Service, value float64)

func setMaxCPU(s *schedule.Service, value float64) { s.MaxCPU = value }
func setMaxMem(s *schedule.Service, value float64) { s.MaxMem = int64(value * mib) }
func setCPU(s *schedule.Service, value float64)    { s.CPU = value }
func setMem(s *schedule.Service, value float64)    { s.Mem = int64(value * mib) }

// setting changes figures, which are given as pairs of name and value.
func setting(figures map[string]figure) func(*Cluster, string, []string) error {
	return func(c *Cluster, sid string, args []string) error {
		s, known := c.scenario.Stats[sid]
		if !known {
			s = defaultStats
		}
		for ; len(args) >= 2; args = args[2:] {
			value, err := strconv.ParseFloat(args[1], 64)
			if err != nil {
				return err
			}
			set := figures[args[0]]
			if set == nil {
				return fmt.Errorf("unknown figure '%s'", args[0])
			}
			set(&s, value)
		}
		if len(args) > 0 {
			return fmt.Errorf("'%s' without a value", args[0])
		}
		if c.scenario.Stats == nil {
			c.scenario.Stats = map[string]schedule.Service{}
		}
		c.scenario.Stats[sid] = s
		return nil
	}
}
