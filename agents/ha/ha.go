// Package ha holds the nouns of high availability: services and their states,
// what CRM and LRM write for each other, settings, and the guard that ties a
// cluster lock to a watchdog.
//
// It owns the meaning of these words and their JSON form in ha/manager_status
// and nodes/NODE/lrm_status. It decides nothing, reads no file and knows no
// clock: agents/ha/crm decides, agents/ha/lrm executes.
package ha

import "strings"

// A ServiceState is the CRM's view of one service.
type ServiceState string

// The states of a service.
const (
	RequestStop         ServiceState = "request_stop"
	Stopped             ServiceState = "stopped"
	RequestStart        ServiceState = "request_start"
	RequestStartBalance ServiceState = "request_start_balance"
	Started             ServiceState = "started"
	Fence               ServiceState = "fence"
	Recovery            ServiceState = "recovery"
	Migrate             ServiceState = "migrate"
	Relocate            ServiceState = "relocate"
	Freeze              ServiceState = "freeze"
	Failed              ServiceState = "error"
)

// Moving reports whether a service in this state is on its way to its target.
func (s ServiceState) Moving() bool {
	return s == Migrate || s == Relocate || s == RequestStartBalance
}

// Idle reports whether a service in this state asks nothing of an LRM, so that
// the LRM may give its lock back.
func (s ServiceState) Idle() bool {
	return s == Stopped || s == Freeze || s == Failed || s == RequestStart
}

// A Request is the state an operator asked for.
type Request string

// The requested states.
const (
	WantStarted  Request = "started"
	WantStopped  Request = "stopped"
	WantDisabled Request = "disabled"
	WantIgnored  Request = "ignored"
)

// ParseRequest reads a requested state; "enabled" is the old word for started.
func ParseRequest(s string) (Request, bool) {
	switch r := Request(s); r {
	case WantStarted, WantStopped, WantDisabled, WantIgnored:
		return r, true
	case "enabled":
		return WantStarted, true
	}
	return "", false
}

// A NodeState is the CRM's view of one node.
type NodeState string

// The states of a node. Gone is a node that left the cluster.
const (
	Online      NodeState = "online"
	Maintenance NodeState = "maintenance"
	Unknown     NodeState = "unknown"
	Fencing     NodeState = "fence"
	Gone        NodeState = "gone"
)

// A Mode is what an LRM is up to, as it tells the CRM.
type Mode string

// The modes of an LRM.
const (
	ModeActive      Mode = "active"
	ModeRestart     Mode = "restart"
	ModeShutdown    Mode = "shutdown"
	ModeMaintenance Mode = "maintenance"
	ModeDisarm      Mode = "disarm"
)

// An LRMState is where an LRM stands between idle and working.
type LRMState string

// The states of an LRM. Starting is before the first step.
const (
	LRMStarting    LRMState = "startup"
	LRMWait        LRMState = "wait_for_agent_lock"
	LRMActive      LRMState = "active"
	LRMMaintenance LRMState = "maintenance"
	LRMLost        LRMState = "lost_agent_lock"
)

// A Code is the outcome of an LRM's job.
type Code int

// The outcomes of a job.
const (
	Success        Code = 0
	Error          Code = 1
	TryAgain       Code = 2 // never stored: the job comes again
	WrongNode      Code = 3
	UnknownService Code = 7
	Ignored        Code = 8
)

// ManagerLock is the cluster lock of the one CRM that decides.
const ManagerLock = "ha_manager_lock"

// AgentLock names the cluster lock an LRM holds while it may run services.
func AgentLock(node string) string { return "ha_agent_" + node + "_lock" }

// TypeOf returns the type of a service: "vm" for "vm:100".
func TypeOf(sid string) string {
	kind, _, _ := strings.Cut(sid, ":")
	return kind
}

// MotionOf returns how a running service changes nodes: VMs migrate, all
// other types stop, move and start.
func MotionOf(sid string) ServiceState {
	if TypeOf(sid) == "vm" {
		return Migrate
	}
	return Relocate
}
