package lrm

import "etcpve/agents/ha"

// A Leave is a reason to end.
type Leave string

// The reasons: the node reboots, the node shuts down, or the LRM alone starts
// again, say for an upgrade.
const (
	Reboot   Leave = "reboot"
	Shutdown Leave = "shutdown"
	Restart  Leave = "restart"
)

// shutdown is a request to end; the first one counts.
type shutdown struct {
	asked bool
	why   Leave
}

// Ending returns why the LRM is ending.
func (l *LRM) Ending() (Leave, bool) { return l.ending.why, l.ending.asked }

// Stop asks the LRM to end in order. What becomes of its services is up to the
// shutdown policy.
func (l *LRM) Stop(why Leave) {
	if l.ending.asked {
		return
	}
	l.ending = shutdown{true, why}
	if why == Restart {
		l.mode = ha.ModeRestart
		l.Log.Info("restart LRM, freeze all services")
	} else {
		l.leaveNode(why)
	}
	l.publish()
}

// leaveNode prepares for the node going down.
func (l *LRM) leaveNode(why Leave) {
	policy := l.Cluster.ShutdownPolicy()
	l.Log.Info("got shutdown request with shutdown policy '%s'", policy)
	if policy != "migrate" {
		l.work.stopAll(l.seen.Services)
	}
	switch {
	case l.mode == ha.ModeMaintenance && policy == "migrate":
		l.Log.Info("%s LRM, ignore maintenance policy, already in maintenance mode", why)
	case l.mode == ha.ModeMaintenance:
		l.Log.Info("%s LRM, ignore %s policy as manual maintenance mode is enabled", why, policy)
	case policy == "migrate":
		l.mode = ha.ModeMaintenance
		l.Log.Info("%s LRM, doing maintenance, removing this node from active list", why)
	case policy == "freeze" || policy != "failover" && why == Reboot:
		l.mode = ha.ModeRestart
		l.Log.Info("%s LRM, stop and freeze all services", why)
	default:
		l.mode = ha.ModeShutdown
		l.Log.Info("shutdown LRM, stop all services")
	}
}
