package hasimulator

import (
	"fmt"
	"strings"

	"etcpve/agents/ha/sim"
)

const (
	nodeForm    = "%-12s %-6s %-8s %-12s %-18s %s"
	serviceForm = "%-12s %-9s %-22s %-12s %s"
	help        = "up/down choose   space one round   r run/pause   a disarm/arm HA   q quit"
	nodeHelp    = "p power   n network   b reboot   h shutdown   m maintenance   l restart LRM"
	serviceHelp = "s start   t stop   d disable   i ignore   l lock   1-9 migrate to that node"
)

// view draws the whole screen as lines no longer than width; the log gets what
// height is left.
func (m *model) view(width, height int) []string {
	lines := []string{m.title(), ""}
	row := 0
	add := func(line string) {
		mark := "  "
		if row == m.row {
			mark = "> "
		}
		lines = append(lines, mark+line)
		row++
	}
	lines = append(lines, "  "+fmt.Sprintf(nodeForm, "NODE", "POWER", "NETWORK", "STATE", "CRM", "LRM"))
	for _, n := range m.cluster.Nodes() {
		add(nodeLine(n))
	}
	lines = append(lines, "", "  "+fmt.Sprintf(serviceForm, "SERVICE", "REQUEST", "STATE", "NODE", "RUNS ON"))
	for _, s := range m.cluster.Services() {
		add(serviceLine(s))
	}
	keys := serviceHelp
	if m.row < len(m.cluster.Nodes()) {
		keys = nodeHelp
	}
	lines = append(lines, "", help, keys, "")
	lines = append(lines, tail(m.log, height-len(lines))...)
	for i, line := range lines {
		lines[i] = cut(line, width)
	}
	return lines[:min(len(lines), max(height, 0))]
}

func (m *model) title() string {
	state := "paused"
	switch {
	case m.failed != nil:
		state = "failed: " + m.failed.Error()
	case m.running:
		state = "running"
	}
	if d, disarmed := m.cluster.Disarmed(); disarmed {
		state += "   HA " + string(d.State)
	}
	master := m.cluster.Master()
	if master == "" {
		master = "none"
	}
	return fmt.Sprintf("HA simulator   time %d s   master %s   %s", m.cluster.Now(), master, state)
}

func nodeLine(n sim.NodeLook) string {
	lrm := n.LRM
	if lrm != "" {
		lrm += " (" + string(n.Mode) + ")"
	}
	return fmt.Sprintf(nodeForm, n.Name, onOff(n.Power), onOff(n.Network), orDash(string(n.State)), orDash(n.CRM), orDash(lrm))
}

func serviceLine(s sim.ServiceLook) string {
	node := s.Node
	if s.Target != "" {
		node += " => " + s.Target
	}
	running := orDash(strings.Join(s.Running, " "))
	if s.Lock != "" {
		running += " (locked: " + s.Lock + ")"
	}
	return fmt.Sprintf(serviceForm, s.SID, s.Request, orDash(string(s.State)), node, running)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func tail(lines []string, n int) []string { return lines[max(len(lines)-max(n, 0), 0):] }

func cut(line string, width int) string {
	if len(line) > width {
		return line[:max(width, 0)]
	}
	return line
}
