package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/ha"
	"etcpve/agents/ha/schedule"
)

// A Scenario is a small cluster at its beginning and what happens to it.
type Scenario struct {
	Hardware  map[string]Hardware
	Status    ha.ManagerStatus
	Resources map[string]ha.Resource
	Rules     string
	Groups    string
	Settings  ha.Settings
	Stats     map[string]schedule.Service
	Commands  [][]string // groups of commands
}

// Hardware is one node at the beginning.
type Hardware struct {
	Power, Network bool
	Version        string
	schedule.Node
}

// Figures assumed where a scenario gives none.
const (
	mib            = 1 << 20
	defaultVersion = "9.0.0~2"
)

var defaultStats = schedule.Service{MaxCPU: 4, MaxMem: 4096 * mib, CPU: 2, Mem: 2048 * mib}

// Load reads a scenario directory.
func Load(dir string) (Scenario, error) {
	d := directory(dir)
	s := Scenario{}
	for _, part := range []struct {
		name     string
		optional bool
		read     func(text []byte) error
	}{
		{"cmdlist", false, func(text []byte) error { return json.Unmarshal(text, &s.Commands) }},
		{"hardware_status", false, s.readHardware},
		{"manager_status", false, func(text []byte) error { return json.Unmarshal(text, &s.Status) }},
		{"service_config", false, s.readResources},
		{"rules_config", true, func(text []byte) error { s.Rules = string(text); return nil }},
		{"groups", true, func(text []byte) error { s.Groups = string(text); return nil }},
		{"datacenter.cfg", true, s.readSettings},
		{"static_service_stats", true, s.readStats},
		{"dynamic_service_stats", true, s.readStats},
	} {
		if err := d.read(part.name, part.optional, part.read); err != nil {
			return s, err
		}
	}
	if s.Settings == (ha.Settings{}) {
		s.Settings = ha.DefaultSettings
	}
	return s, nil
}

type directory string

// read hands the content of a file to use; an optional file may be missing.
func (d directory) read(name string, optional bool, use func([]byte) error) error {
	path := filepath.Join(string(d), name)
	text, err := os.ReadFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := use(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *Scenario) readHardware(text []byte) error {
	var nodes map[string]struct {
		Power   string  `json:"power"`
		Network string  `json:"network"`
		Cores   *number `json:"maxcpu"`
		Mem     *number `json:"maxmem"`
		Version string  `json:"pve-manager-version"`
	}
	if err := json.Unmarshal(text, &nodes); err != nil {
		return err
	}
	s.Hardware = map[string]Hardware{}
	for name, n := range nodes {
		h := Hardware{Power: n.Power == "on", Network: n.Network == "on", Version: n.Version}
		h.Cores, h.Mem = n.Cores.or(0), int64(n.Mem.or(0))
		if h.Version == "" {
			h.Version = defaultVersion
		}
		s.Hardware[name] = h
	}
	return nil
}

func (s *Scenario) readResources(text []byte) error {
	var services map[string]struct {
		Node        string  `json:"node"`
		State       string  `json:"state"`
		Group       string  `json:"group"`
		Failback    *number `json:"failback"`
		MaxRestart  *number `json:"max_restart"`
		MaxRelocate *number `json:"max_relocate"`
	}
	if err := json.Unmarshal(text, &services); err != nil {
		return err
	}
	s.Resources = map[string]ha.Resource{}
	for sid, c := range services {
		state := c.State
		if state == "" {
			state = string(ha.WantDisabled)
		}
		request, known := ha.ParseRequest(state)
		if !known {
			return fmt.Errorf("service '%s': unknown state '%s'", sid, state)
		}
		s.Resources[sid] = ha.Resource{
			Node:        c.Node,
			Request:     request,
			Group:       c.Group,
			Failback:    c.Failback.or(1) != 0,
			MaxRestart:  int(c.MaxRestart.or(1)),
			MaxRelocate: int(c.MaxRelocate.or(1)),
		}
	}
	return nil
}

func (s *Scenario) readSettings(text []byte) error {
	d := ha.DefaultSettings
	var file struct {
		HA struct {
			ShutdownPolicy *string `json:"shutdown_policy"`
		} `json:"ha"`
		CRS struct {
			Scheduler *string `json:"ha"`
			OnStart   ha.Flag `json:"ha-rebalance-on-start"`
			Auto      ha.Flag `json:"ha-auto-rebalance"`
			Threshold *number `json:"ha-auto-rebalance-threshold"`
			Method    *string `json:"ha-auto-rebalance-method"`
			Hold      *number `json:"ha-auto-rebalance-hold-duration"`
			Margin    *number `json:"ha-auto-rebalance-margin"`
		} `json:"crs"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return err
	}
	s.Settings = ha.Settings{
		ShutdownPolicy:   or(file.HA.ShutdownPolicy, d.ShutdownPolicy),
		Scheduler:        or(file.CRS.Scheduler, d.Scheduler),
		RebalanceOnStart: bool(file.CRS.OnStart),
		Rebalance: ha.Rebalance{
			Enabled:   bool(file.CRS.Auto),
			Threshold: file.CRS.Threshold.share(d.Rebalance.Threshold),
			Method:    or(file.CRS.Method, d.Rebalance.Method),
			Hold:      file.CRS.Hold.or(d.Rebalance.Hold),
			Margin:    file.CRS.Margin.share(d.Rebalance.Margin),
		},
	}
	return nil
}

// readStats reads static or dynamic figures; both files have the same form.
func (s *Scenario) readStats(text []byte) error {
	var stats map[string]struct {
		MaxCPU *number `json:"maxcpu"`
		MaxMem *number `json:"maxmem"`
		CPU    *number `json:"cpu"`
		Mem    *number `json:"mem"`
	}
	if err := json.Unmarshal(text, &stats); err != nil {
		return err
	}
	if s.Stats == nil {
		s.Stats = map[string]schedule.Service{}
	}
	for sid, f := range stats {
		old, known := s.Stats[sid]
		if !known {
			old = defaultStats
		}
		s.Stats[sid] = schedule.Service{
			MaxCPU: f.MaxCPU.or(old.MaxCPU),
			MaxMem: int64(f.MaxMem.or(float64(old.MaxMem))),
			CPU:    f.CPU.or(old.CPU),
			Mem:    int64(f.Mem.or(float64(old.Mem))),
		}
	}
	return nil
}

// number is a JSON number that may be written as a string.
type number float64

func (n *number) UnmarshalJSON(text []byte) error {
	return json.Unmarshal([]byte(strings.Trim(string(text), `"`)), (*float64)(n))
}

func (n *number) or(otherwise float64) float64 {
	if n == nil {
		return otherwise
	}
	return float64(*n)
}

// share is a part of one, which may be written as per cent, as in the real file.
func (n *number) share(otherwise float64) float64 {
	f := n.or(otherwise)
	if f > 1 {
		f /= 100
	}
	return f
}

func or(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}
