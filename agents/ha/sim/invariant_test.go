package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"etcpve/agents/ha"
)

var (
	schedules = flag.Int("schedules", 1000, "number of random fault schedules")
	firstSeed = flag.Uint64("seed", 1, "seed of the first fault schedule")
)

// TestNoServiceRunsTwice runs random faults and looks after every round
// whether any service runs on two nodes at once, as its disks would not
// survive that. Faults end in the middle of a run, and then everything that
// should run has to run again.
//
// While its LRM restarts, and while HA is disarmed, a node runs services with
// neither lock nor watchdog. The protocol does not survive a network that
// fails just then: the lock is free, so the services are taken for dead. So a
// schedule has either such pauses or cut networks, never both. An LRM in
// maintenance that cannot read its decisions ends the run, so a schedule has
// either maintenance or nodes whose files cannot be read.
func TestNoServiceRunsTwice(t *testing.T) {
	n := *schedules
	if testing.Short() {
		n = 50
	}
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		if problem, log := storm(seed); problem != "" {
			for _, r := range log {
				t.Log(r)
			}
			t.Fatalf("seed %d (run again with -seed %d -schedules 1): %s", seed, seed, problem)
		}
	}
	t.Logf("%d schedules, seeds %d to %d", n, *firstSeed, *firstSeed+uint64(n)-1)
}

const (
	stormRounds = 60
	calmRounds  = 60
)

// storm runs one schedule of faults and says what went wrong.
func storm(seed uint64) (problem string, log []Record) {
	random := rand.New(rand.NewPCG(seed, 0))
	w := weather{pauses: seed%2 == 0, unreadable: seed%3 == 0}
	scenario := randomCluster(random)
	if w.unreadable && scenario.Settings.ShutdownPolicy == "migrate" {
		scenario.Settings.ShutdownPolicy = "failover"
	}
	c := New(scenario, func(r Record) { log = append(log, r) })
	for round := range stormRounds + calmRounds {
		switch {
		case round == stormRounds:
			problem = calm(c)
		case round < stormRounds && (round == 0 || random.IntN(3) == 0):
			problem = disturb(c, random, w, round == 0)
		}
		if problem == "" {
			if err := c.Round(); err != nil {
				problem = err.Error()
			}
		}
		if problem == "" {
			problem = doubled(c)
		}
		if problem != "" {
			return problem, log
		}
	}
	return missing(c), log
}

// weather is what may go wrong in a storm besides power and daemons.
type weather struct {
	pauses     bool // in HA, instead of cut networks
	unreadable bool // files on some nodes, instead of maintenance
}

// randomCluster has 3 to 6 nodes and up to 12 services.
func randomCluster(random *rand.Rand) Scenario {
	s := Scenario{Hardware: map[string]Hardware{}, Resources: map[string]ha.Resource{}, Settings: ha.DefaultSettings}
	nodes := 3 + random.IntN(4)
	for i := range nodes {
		s.Hardware[fmt.Sprintf("node%d", i+1)] = Hardware{Version: defaultVersion}
	}
	for i := range 1 + random.IntN(12) {
		r := ha.DefaultResource
		r.Node = fmt.Sprintf("node%d", 1+random.IntN(nodes))
		r.Failback = random.IntN(2) == 0
		s.Resources[fmt.Sprintf("%s:%d", []string{"vm", "ct"}[random.IntN(2)], 100+i)] = r
	}
	s.Settings.ShutdownPolicy = []string{"freeze", "failover", "conditional", "migrate"}[random.IntN(4)]
	s.Settings.RebalanceOnStart = random.IntN(2) == 0
	s.Settings.Scheduler = []string{"basic", "static", "dynamic"}[random.IntN(3)]
	s.Settings.Rebalance.Enabled = random.IntN(2) == 0
	s.Settings.Rebalance.Hold = 1
	for name, h := range s.Hardware {
		h.Cores, h.Mem = 8, 32<<30
		s.Hardware[name] = h
	}
	s.Rules = []string{"",
		"resource-affinity: a\n\tresources vm:100,vm:101,vm:102\n\taffinity negative\n\n" +
			"resource-affinity: b\n\tresources ct:100,ct:101\n\taffinity positive\n\n" +
			"node-affinity: c\n\tresources ct:101,ct:102,vm:103\n\tnodes node1,node3\n\tstrict 1\n",
		"resource-affinity: a\n\tresources vm:100,vm:101,ct:100,ct:101\n\taffinity positive\n",
		"resource-affinity: a\n\tresources vm:100,ct:101\n\taffinity negative\n\nnode-affinity: b\n\tresources vm:102,ct:102\n\tnodes node1:2,node2\n",
	}[random.IntN(4)]
	return s
}

// disturb does one or more random things to a cluster.
func disturb(c *Cluster, random *rand.Rand, w weather, begin bool) string {
	if begin {
		for _, name := range c.names {
			c.nodes[name].powerOn()
		}
	}
	var commands []string
	services := c.Services()
	for range 1 + random.IntN(2) {
		// Nodes that are on, and perhaps on their way down, can't be switched on.
		on := "delay 0"
		if off := c.names[random.IntN(len(c.names))]; !c.nodes[off].Power {
			on = "power " + off + " on"
		}
		node := c.names[random.IntN(len(c.names))]
		other := c.names[random.IntN(len(c.names))]
		sid := services[random.IntN(len(services))].SID
		choices := []string{
			on,
			"power " + node + " off",
			"cfs " + node + " update fail",
			"cfs " + node + " update work",
			"skip-round crm 3",
			"skip-round lrm 3",
			"reboot " + node,
			"shutdown " + node,
			"service " + sid + " migrate " + other,
			"service " + sid + " relocate " + other,
			"service " + sid + " stopped",
			"service " + sid + " started",
			"service " + sid + " disabled",
			"service " + sid + " lock",
			"service " + sid + " unlock",
			"service " + sid + " stop 10",
		}
		if w.unreadable {
			choices = append(choices, "cfs "+node+" rw fail", "cfs "+node+" rw work")
		} else {
			choices = append(choices, "crm "+node+" enable-node-maintenance", "crm "+node+" disable-node-maintenance")
		}
		if w.pauses {
			choices = append(choices, "restart-lrm "+node, "crm "+node+" disarm-ha freeze", "crm "+node+" arm-ha")
		} else {
			choices = append(choices, "network "+node+" off", "network "+node+" on")
		}
		commands = append(commands, choices[random.IntN(len(choices))])
	}
	return executeOrSay(c, commands)
}

// calm ends all faults, and asks for everything to run.
func calm(c *Cluster) string {
	var commands []string
	for _, name := range c.names {
		// A node on its way down ends there, and comes back as a new one.
		commands = append(commands, "power "+name+" off", "power "+name+" on",
			"crm "+name+" disable-node-maintenance")
	}
	commands = append(commands, "crm "+c.names[0]+" arm-ha")
	for _, s := range c.Services() {
		commands = append(commands, "service "+s.SID+" unlock", "service "+s.SID+" disabled")
	}
	if problem := executeOrSay(c, commands); problem != "" {
		return problem
	}
	for range calmRounds / 2 {
		if err := c.Round(); err != nil {
			return err.Error()
		}
	}
	for _, s := range c.Services() {
		if problem := executeOrSay(c, []string{"service " + s.SID + " started"}); problem != "" {
			return problem
		}
	}
	return ""
}

func executeOrSay(c *Cluster, commands []string) string {
	if err := c.executeAll("storm", commands...); err != nil {
		return err.Error()
	}
	return ""
}

// doubled names the services that run on several nodes.
func doubled(c *Cluster) string {
	var all []string
	for _, s := range c.Services() {
		if len(s.Running) > 1 {
			all = append(all, fmt.Sprintf("%s runs on %s", s.SID, strings.Join(s.Running, " and ")))
		}
	}
	return strings.Join(all, ", ")
}

// missing names the services that don't run where they are configured.
func missing(c *Cluster) string {
	var all []string
	for _, s := range c.Services() {
		if s.State != ha.Started || len(s.Running) != 1 || s.Running[0] != s.Node {
			all = append(all, fmt.Sprintf("%s on %s is %s and runs on %q", s.SID, s.Node, s.State, s.Running))
		}
	}
	return strings.Join(all, ", ")
}
