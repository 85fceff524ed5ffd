package files

import (
	"fmt"
	"slices"
	"strconv"

	"etcpve/agents/guest"
	"etcpve/agents/ha"
	"etcpve/cfs/format/property"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
	"etcpve/cfs/format/settings"
	"etcpve/cfs/layout"
)

// kinds are the stacks of the types of service.
var kinds = map[string]layout.Kind{"vm": layout.QEMU, "ct": layout.LXC}

// Homes returns the node of every guest by its service id, all at one moment.
func (t Tree) Homes() (map[string]string, error) {
	guests, err := guest.All(t.Root)
	homes := map[string]string{}
	for _, g := range guests {
		for kind, stack := range kinds {
			if g.Kind == stack {
				homes[fmt.Sprintf("%s:%d", kind, g.VMID)] = g.Node
			}
		}
	}
	return homes, err
}

// Configured returns the configured resources whose guest exists. An option
// that cannot be understood is left at its default, and is one of the Mistakes
// that come with the resources.
func (t Tree) Configured() (map[string]ha.Resource, error) {
	text, err := t.Read(Resources)
	if err != nil {
		return nil, err
	}
	homes, err := t.Homes()
	if err != nil {
		return nil, err
	}
	var mistakes Mistakes
	all := map[string]ha.Resource{}
	for _, s := range section.ParseDocument(text, "").Sections {
		sid := s.Type + ":" + s.ID
		if homes[sid] == "" {
			continue
		}
		r := ha.DefaultResource
		for _, e := range s.Entries {
			if set := options[e.Key]; set != nil && !set(&r, e.Value) {
				mistakes = append(mistakes, fmt.Sprintf("%s: line %d: %s: %s: '%s' is not understood, the default holds",
					Resources, e.Line, sid, e.Key, e.Value))
			}
		}
		r.Node = homes[sid]
		all[sid] = r
	}
	return all, mistakes.err()
}

// options say what the options of a resource mean. They report whether a value
// is understood, and else change nothing.
var options = map[string]func(*ha.Resource, string) bool{
	"state": func(r *ha.Resource, v string) bool {
		request, known := ha.ParseRequest(v)
		if known {
			r.Request = request
		}
		return known
	},
	"group":        func(r *ha.Resource, v string) bool { r.Group = v; return true },
	"failback":     func(r *ha.Resource, v string) bool { return truth(&r.Failback, v) },
	"max_restart":  func(r *ha.Resource, v string) bool { return whole(&r.MaxRestart, v) },
	"max_relocate": func(r *ha.Resource, v string) bool { return whole(&r.MaxRelocate, v) },
}

// Settings returns what datacenter.cfg says of HA. An option that cannot be
// understood is left at its default, and is one of the Mistakes that come with
// the settings.
func (t Tree) Settings() (ha.Settings, error) {
	s := ha.DefaultSettings
	text, err := t.Read("datacenter.cfg")
	if err != nil {
		return s, err
	}
	var mistakes Mistakes
	for _, line := range settings.Parse(text).Settings() {
		if line.Key != "ha" && line.Key != "crs" {
			continue
		}
		parts, err := property.Split(line.Value)
		if err != nil {
			mistakes = append(mistakes, fmt.Sprintf("datacenter.cfg: line %d: %s: %v, the defaults hold", line.Line, line.Key, err))
		}
		for _, p := range parts {
			if set := choices[line.Key+"."+p.Key]; set != nil && !set(&s, p.Value) {
				mistakes = append(mistakes, fmt.Sprintf("datacenter.cfg: line %d: %s: %s: '%s' is not understood, the default holds",
					line.Line, line.Key, p.Key, p.Value))
			}
		}
	}
	return s, mistakes.err()
}

// choices say what the options of datacenter.cfg mean. Thresholds and margins
// are per cent there.
var choices = map[string]func(*ha.Settings, string) bool{
	"ha.shutdown_policy": func(s *ha.Settings, v string) bool {
		return word(&s.ShutdownPolicy, v, "freeze", "failover", "migrate", "conditional")
	},
	"crs.ha":                          func(s *ha.Settings, v string) bool { return word(&s.Scheduler, v, "basic", "static", "dynamic") },
	"crs.ha-rebalance-on-start":       func(s *ha.Settings, v string) bool { return truth(&s.RebalanceOnStart, v) },
	"crs.ha-auto-rebalance":           func(s *ha.Settings, v string) bool { return truth(&s.Rebalance.Enabled, v) },
	"crs.ha-auto-rebalance-method":    func(s *ha.Settings, v string) bool { return word(&s.Rebalance.Method, v, "bruteforce", "topsis") },
	"crs.ha-auto-rebalance-threshold": func(s *ha.Settings, v string) bool { return number(&s.Rebalance.Threshold, v, 0.01) },
	"crs.ha-auto-rebalance-margin":    func(s *ha.Settings, v string) bool { return number(&s.Rebalance.Margin, v, 0.01) },
	"crs.ha-auto-rebalance-hold-duration": func(s *ha.Settings, v string) bool {
		return number(&s.Rebalance.Hold, v, 1)
	},
}

func word(to *string, value string, known ...string) bool {
	if !slices.Contains(known, value) {
		return false
	}
	*to = value
	return true
}

func truth(to *bool, value string) bool {
	b, ok := schema.Bool(value)
	if ok {
		*to = b
	}
	return ok
}

func whole(to *int, value string) bool {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return false
	}
	*to = n
	return true
}

func number(to *float64, value string, unit float64) bool {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0) {
		return false
	}
	*to = f * unit
	return true
}
