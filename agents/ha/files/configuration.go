package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/ha"
	"etcpve/cfs/format/section"
	"etcpve/cfs/layout"
)

// kinds are the stacks of the types of service.
var kinds = map[string]layout.Kind{"vm": layout.QEMU, "ct": layout.LXC}

// Homes returns the node of every guest by its service id.
func (t Tree) Homes() (map[string]string, error) {
	nodes, err := t.Nodes()
	if err != nil {
		return nil, err
	}
	homes := map[string]string{}
	for _, node := range nodes {
		for kind, stack := range kinds {
			entries, err := os.ReadDir(filepath.Join(t.Root, "nodes", node, stack.Dir()))
			if err != nil && !os.IsNotExist(err) {
				return nil, err
			}
			for _, e := range entries {
				if g, ok := layout.GuestOf("nodes/" + node + "/" + stack.Dir() + "/" + e.Name()); ok {
					homes[fmt.Sprintf("%s:%d", kind, g.VMID)] = node
				}
			}
		}
	}
	return homes, nil
}

// Configured returns the configured resources whose guest exists.
func (t Tree) Configured() (map[string]ha.Resource, error) {
	text, err := t.Read(Resources)
	if err != nil {
		return nil, err
	}
	homes, err := t.Homes()
	if err != nil {
		return nil, err
	}
	all := map[string]ha.Resource{}
	for _, s := range section.ParseDocument(text, "").Sections {
		sid := s.Type + ":" + s.ID
		if homes[sid] == "" {
			continue
		}
		r, err := resourceOf(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", Resources, sid, err)
		}
		r.Node = homes[sid]
		all[sid] = r
	}
	return all, nil
}

func resourceOf(s section.Section) (r ha.Resource, err error) {
	r = ha.DefaultResource
	for _, e := range s.Entries {
		switch e.Key {
		case "state":
			var known bool
			if r.Request, known = ha.ParseRequest(e.Value); !known {
				err = fmt.Errorf("unknown state '%s'", e.Value)
			}
		case "group":
			r.Group = e.Value
		case "failback":
			r.Failback = e.Value != "0"
		case "max_restart":
			r.MaxRestart, err = strconv.Atoi(e.Value)
		case "max_relocate":
			r.MaxRelocate, err = strconv.Atoi(e.Value)
		}
		if err != nil {
			return r, fmt.Errorf("line %d: %s: %w", e.Line, e.Key, err)
		}
	}
	return r, nil
}

// Settings returns what datacenter.cfg says of HA.
func (t Tree) Settings() (ha.Settings, error) {
	s := ha.DefaultSettings
	text, err := t.Read("datacenter.cfg")
	if err != nil {
		return s, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, ":")
		if key != "ha" && key != "crs" {
			continue
		}
		for item := range strings.SplitSeq(strings.TrimSpace(value), ",") {
			name, value, _ := strings.Cut(item, "=")
			set := settings[key+"."+name]
			if set == nil {
				continue
			}
			if err := set(&s, value); err != nil {
				return ha.DefaultSettings, fmt.Errorf("datacenter.cfg: %s: %s: %w", key, name, err)
			}
		}
	}
	return s, nil
}

// settings say what the options of datacenter.cfg mean.
var settings = map[string]func(*ha.Settings, string) error{
	"ha.shutdown_policy":              func(s *ha.Settings, v string) error { s.ShutdownPolicy = v; return nil },
	"crs.ha":                          func(s *ha.Settings, v string) error { s.Scheduler = v; return nil },
	"crs.ha-rebalance-on-start":       func(s *ha.Settings, v string) error { s.RebalanceOnStart = v == "1"; return nil },
	"crs.ha-auto-rebalance":           func(s *ha.Settings, v string) error { s.Rebalance.Enabled = v == "1"; return nil },
	"crs.ha-auto-rebalance-method":    func(s *ha.Settings, v string) error { s.Rebalance.Method = v; return nil },
	"crs.ha-auto-rebalance-threshold": func(s *ha.Settings, v string) error { return float(&s.Rebalance.Threshold, v) },
	"crs.ha-auto-rebalance-margin":    func(s *ha.Settings, v string) error { return float(&s.Rebalance.Margin, v) },
	"crs.ha-auto-rebalance-hold-duration": func(s *ha.Settings, v string) (err error) {
		s.Rebalance.Hold, err = strconv.Atoi(v)
		return err
	},
}

func float(to *float64, value string) (err error) {
	*to, err = strconv.ParseFloat(value, 64)
	return err
}
