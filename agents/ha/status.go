package ha

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// ManagerStatus is the content of ha/manager_status: what the master decided,
// for the LRMs and for its successor.
type ManagerStatus struct {
	Master    string                 `json:"master_node,omitempty"`
	Timestamp int64                  `json:"timestamp,omitempty"` // seconds since 1970
	Nodes     map[string]NodeState   `json:"node_status,omitempty"`
	Services  map[string]*Service    `json:"service_status,omitempty"`
	Requests  map[string]NodeRequest `json:"node_request,omitempty"`
	Disarm    *Disarm                `json:"disarm,omitempty"`
}

// Service is the CRM's record of one service. A UID stands for one decision:
// an LRM's result counts only for the UID it was given.
type Service struct {
	State           ServiceState `json:"state"`
	Node            string       `json:"node"`
	UID             string       `json:"uid,omitempty"`
	Target          string       `json:"target,omitempty"`
	Timeout         *int         `json:"timeout,omitempty"` // seconds; nil: none given
	Running         Flag         `json:"running,omitempty"` // an LRM has seen it run
	Command         *Command     `json:"cmd,omitempty"`     // queued by an operator
	FailedNodes     []string     `json:"failed_nodes,omitempty"`
	MaintenanceNode string       `json:"maintenance_node,omitempty"` // where it returns to
}

// NodeRequest is what operators asked of a node.
type NodeRequest struct {
	Maintenance Flag `json:"maintenance,omitempty"`
}

// Disarm records that HA is, or is about to be, switched off.
type Disarm struct {
	Mode  DisarmMode  `json:"mode"`
	State DisarmState `json:"state"`
}

// A DisarmMode says what happens to services while HA is off.
type DisarmMode string

// The ways to disarm: freeze keeps services as they are, ignore leaves them to
// the operator.
const (
	DisarmFreeze DisarmMode = "freeze"
	DisarmIgnore DisarmMode = "ignore"
)

// A DisarmState says how far disarming has come.
type DisarmState string

// The states of disarming.
const (
	Disarming DisarmState = "disarming"
	Disarmed  DisarmState = "disarmed"
)

// Disarmed reports whether HA is switched off completely.
func (m *ManagerStatus) Disarmed() bool {
	return m.Disarm != nil && m.Disarm.State == Disarmed
}

// Clone returns a copy that shares nothing with m.
func (m *ManagerStatus) Clone() ManagerStatus {
	c := *m
	c.Nodes = maps.Clone(m.Nodes)
	c.Requests = maps.Clone(m.Requests)
	c.Services = make(map[string]*Service, len(m.Services))
	for sid, s := range m.Services {
		c.Services[sid] = s.clone()
	}
	if m.Disarm != nil {
		d := *m.Disarm
		c.Disarm = &d
	}
	return c
}

// SIDs returns the ids of all services in their order.
func (m *ManagerStatus) SIDs() []string { return slices.Sorted(maps.Keys(m.Services)) }

// ActiveOn counts the services that need the LRM of a node.
func (m *ManagerStatus) ActiveOn(node string) (n int) {
	for _, s := range m.Services {
		if (s.Node == node || s.Target == node) && !s.State.Idle() {
			n++
		}
	}
	return n
}

// FenceRequested reports whether a node, or a service on it, waits to be fenced.
func (m *ManagerStatus) FenceRequested(node string) bool {
	return m.Nodes[node] == Fencing || m.FencesServiceOn(node)
}

// FencesServiceOn reports whether a service on a node waits for its fencing.
func (m *ManagerStatus) FencesServiceOn(node string) bool {
	for _, s := range m.Services {
		if s.Node == node && s.State == Fence {
			return true
		}
	}
	return false
}

func (s *Service) clone() *Service {
	c := *s
	c.FailedNodes = slices.Clone(s.FailedNodes)
	return &c
}

// LRMStatus is the content of nodes/NODE/lrm_status.
type LRMStatus struct {
	State     LRMState          `json:"state"`
	Mode      Mode              `json:"mode"`
	Results   map[string]Result `json:"results"` // by UID
	Timestamp int64             `json:"timestamp"`
}

// Result is the outcome of the job an LRM did for one UID.
type Result struct {
	SID   string       `json:"sid"`
	Code  Code         `json:"exit_code"`
	State ServiceState `json:"state"`
}

// Command is a verb with its one argument, stored as a JSON array of two.
type Command struct {
	Verb     string // migrate, relocate or stop
	Argument string // a node or seconds
}

// MarshalJSON writes the command as an array.
func (c Command) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]string{c.Verb, c.Argument})
}

// UnmarshalJSON reads an array of a verb and a string or number.
func (c *Command) UnmarshalJSON(text []byte) error {
	var words []any
	if err := json.Unmarshal(text, &words); err != nil {
		return fmt.Errorf("queued command: %w", err)
	}
	if len(words) != 2 {
		return fmt.Errorf("queued command: %d words instead of 2", len(words))
	}
	c.Verb, c.Argument = fmt.Sprint(words[0]), fmt.Sprint(words[1])
	return nil
}

// Flag is a boolean that is written as 1 or 0, and read from numbers, strings
// and booleans, as Perl wrote them.
type Flag bool

// MarshalJSON writes 1 or 0.
func (f Flag) MarshalJSON() ([]byte, error) {
	if f {
		return []byte("1"), nil
	}
	return []byte("0"), nil
}

// UnmarshalJSON reads what Perl calls true or false.
func (f *Flag) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "0", `"0"`, `""`, "false", "null":
		*f = false
	default:
		*f = true
	}
	return nil
}
