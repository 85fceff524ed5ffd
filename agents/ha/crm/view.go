// Package crm decides: which node is alive, which service runs where, who is
// fenced.
//
// It owns the manager's round, a function from what one node sees of the
// cluster to a new manager status, a list of changes and the lines to log; and
// the CRM around it, which seeks the manager lock and guards it by a watchdog.
// It never touches a guest: the LRMs do what the manager status says.
package crm

import (
	"fmt"

	"etcpve/agents/ha"
	"etcpve/agents/ha/schedule"
)

// A View is everything a round may know, read at one moment.
type View struct {
	Node      string // the node that decides
	Now       int64  // seconds
	Status    ha.ManagerStatus
	Members   map[string]Member // every node of the cluster
	LRMs      map[string]ha.LRMStatus
	Resources map[string]ha.Resource
	Services  map[string]schedule.Service
	Rules     string // text of ha/rules.cfg
	Groups    string // text of ha/groups.cfg
	Settings  ha.Settings
	Commands  []string // lines of ha/crm_commands
}

// A Member is one node as the cluster sees it.
type Member struct {
	Connected bool
	Version   string // of the software there, "9.1.2"
	schedule.Node
}

// Hands are the few things a round cannot know beforehand.
type Hands interface {
	// AgentLock tries to take the lock of another node's LRM. It succeeds only
	// when that node cannot run services any more.
	AgentLock(node string) ha.Grip
	// GuestLock returns the kind of the configuration lock of a guest, or "".
	GuestLock(sid string) string
	// NewUID returns a string never returned before.
	NewUID() string
}

// An Outcome is what a round wants done, in this order: log the lines, make
// the changes, write the status, drop the commands it has read.
type Outcome struct {
	Lines    []Line
	Changes  []Change
	Status   ha.ManagerStatus
	Commands int  // how many of the view's commands are dealt with
	Offline  bool // the round was not finished: write nothing

	// Ignored are the rules that do not hold.
	Ignored []Ignored

	// Explain says of each service why it is where it is. It is asked for what
	// the round decided, and only until the next round begins.
	Explain func() []Verdict
}

// Ignored is a rule that does not hold, and why. The name is missing where the
// reason has it.
type Ignored struct{ Rule, Reason string }

// A Line is one line to log.
type Line struct {
	Level ha.Level
	Text  string
}

// A Change is a change of a file other than the manager status.
type Change interface{ fmt.Stringer }

// Steal moves the configuration of a service off a fenced node, or off where a
// master before has moved it without a word. It may be at its end already.
type Steal struct {
	SID, From, To string
	Unlock        bool // remove the configuration lock the dead node left
}

func (c Steal) String() string {
	return fmt.Sprintf("service '%s': move configuration from '%s' to '%s'", c.SID, c.From, c.To)
}

// SetRequest changes the requested state in ha/resources.cfg.
type SetRequest struct {
	SID     string
	Request ha.Request
}

func (c SetRequest) String() string {
	return fmt.Sprintf("service '%s': set requested state to '%s'", c.SID, c.Request)
}

// ConvertGroups replaces groups by rules: ha/rules.cfg gets a new text, the
// resources lose their group and may get a failback, ha/groups.cfg goes.
type ConvertGroups struct {
	Rules    string
	Failback map[string]bool // by service that had a group
}

func (c ConvertGroups) String() string {
	return fmt.Sprintf("convert the groups of %d services to rules", len(c.Failback))
}
