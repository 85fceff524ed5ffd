package hasimulator

import (
	"fmt"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/sim"
)

// model is the simulated cluster, what has happened to it, and the row a
// person has chosen: nodes come first, then services.
type model struct {
	cluster *sim.Cluster
	log     []string
	row     int
	running bool  // a round follows by itself after each tick
	failed  error // the simulation can't go on
}

func newModel(scenario sim.Scenario) *model {
	m := &model{running: true}
	m.cluster = sim.New(scenario, func(r sim.Record) { m.log = append(m.log, r.String()) })
	return m
}

// tick lets the simulation go on by one round if it is running.
func (m *model) tick() {
	if m.running {
		m.step()
	}
}

func (m *model) step() {
	if m.failed == nil {
		m.failed = m.cluster.Round()
	}
}

// chosen returns the node or the service of the chosen row.
func (m *model) chosen() (node *sim.NodeLook, service *sim.ServiceLook) {
	nodes := m.cluster.Nodes()
	if m.row < len(nodes) {
		return &nodes[m.row], nil
	}
	services := m.cluster.Services()
	return nil, &services[m.row-len(nodes)]
}

// nodeKeys are the commands of keys while a node is chosen.
var nodeKeys = map[string]func(sim.NodeLook) string{
	"p": func(n sim.NodeLook) string { return "power " + n.Name + " " + opposite(n.Power) },
	"n": func(n sim.NodeLook) string { return "network " + n.Name + " " + opposite(n.Network) },
	"b": func(n sim.NodeLook) string { return "reboot " + n.Name },
	"h": func(n sim.NodeLook) string { return "shutdown " + n.Name },
	"l": func(n sim.NodeLook) string { return "restart-lrm " + n.Name },
	"m": func(n sim.NodeLook) string {
		if n.Mode == ha.ModeMaintenance {
			return "crm " + n.Name + " disable-node-maintenance"
		}
		return "crm " + n.Name + " enable-node-maintenance"
	},
}

// serviceKeys are the requested states of keys while a service is chosen.
var serviceKeys = map[string]ha.Request{
	"s": ha.WantStarted,
	"t": ha.WantStopped,
	"d": ha.WantDisabled,
	"i": ha.WantIgnored,
}

func opposite(on bool) string {
	if on {
		return "off"
	}
	return "on"
}

// press does what a key stands for. It reports whether to quit.
func (m *model) press(key string) (quit bool) {
	rows := len(m.cluster.Nodes()) + len(m.cluster.Services())
	switch key {
	case "q", "\x03":
		return true
	case "up", "k":
		m.row = (m.row + rows - 1) % rows
	case "down", "j":
		m.row = (m.row + 1) % rows
	case "r":
		m.running = !m.running
	case " ":
		m.step()
	case "a":
		m.execute(m.armament())
	default:
		m.execute(m.command(key))
	}
	return false
}

func (m *model) execute(command string) {
	if command != "" && m.failed == nil {
		m.failed = m.cluster.Execute("operator", command)
	}
}

// armament is the command that switches HA off, or on again. Any node passes it on.
func (m *model) armament() string {
	order := "disarm-ha freeze"
	if _, disarmed := m.cluster.Disarmed(); disarmed {
		order = "arm-ha"
	}
	return "crm " + m.cluster.Nodes()[0].Name + " " + order
}

// command returns what a key does to the chosen row, or "".
func (m *model) command(key string) string {
	node, service := m.chosen()
	if node != nil {
		if command := nodeKeys[key]; command != nil {
			return command(*node)
		}
		return ""
	}
	if request, known := serviceKeys[key]; known {
		return fmt.Sprintf("service %s %s", service.SID, request)
	}
	if key == "l" {
		if service.Lock != "" {
			return fmt.Sprintf("service %s unlock", service.SID)
		}
		return fmt.Sprintf("service %s lock", service.SID)
	}
	nodes := m.cluster.Nodes()
	if at := strings.Index("123456789", key); len(key) == 1 && at >= 0 && at < len(nodes) {
		return fmt.Sprintf("service %s migrate %s", service.SID, nodes[at].Name)
	}
	return ""
}
