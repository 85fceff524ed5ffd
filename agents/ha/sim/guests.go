package sim

import (
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/ha"
)

var (
	errLocked = errors.New("locked")
	errMeant  = errors.New("made to fail")
)

// guests are the services of one simulated node.
type guests struct {
	*node
	log ha.Log
}

func (g guests) Running(sid string) bool { return g.running[sid] }

func (g guests) Start(sid string) error {
	if lock := g.cluster.guestLocks[sid]; lock != "" {
		g.log.Err("service '%s' locked (%s), unable to start!", sid, lock)
		return errLocked
	}
	if g.cluster.fails(attempt{sid, "start"}, g.name) {
		return errMeant
	}
	g.running[sid] = true
	return nil
}

func (g guests) Stop(sid string, _ *int) error {
	if lock := g.cluster.guestLocks[sid]; lock != "" {
		g.log.Err("service '%s' locked (%s), unable to shutdown!", sid, lock)
		return errLocked
	}
	if flawOf(sid).stop {
		return errMeant
	}
	delete(g.running, sid)
	return nil
}

func (g guests) Move(sid, target string, online bool) error {
	if g.cluster.fails(attempt{sid, "move"}, g.name) {
		return errMeant
	}
	if online && ha.TypeOf(sid) == "ct" && g.running[sid] {
		g.log.Warn("unable to live migrate running container, fallback to relocate")
		online = false
	}
	verb := "relocate"
	if online {
		verb = "migrate"
	}
	g.log.Info("service %s - start %s to node '%s'", sid, verb, target)
	if lock := g.cluster.guestLocks[sid]; lock != "" {
		g.log.Err("service '%s' locked (%s), unable to %s!", sid, lock, verb)
		return errLocked
	}
	switch {
	case online:
		delete(g.running, sid)
	case g.running[sid]:
		g.log.Info("stopping service %s (relocate)", sid)
		if !flawOf(sid).stop {
			delete(g.running, sid)
		}
		g.log.Info("service status %s stopped", sid)
	}
	r := g.cluster.scenario.Resources[sid]
	r.Node = target
	g.cluster.scenario.Resources[sid] = r
	g.log.Info("service %s - end %s to node '%s'", sid, verb, target)
	return nil
}

// A flaw is how a service of type fa fails. It is told by the digits of its
// number: the second is how many starts fail before one works, the third the
// same for moves, the fourth makes stopping impossible, and the sixth restricts
// the failures of starts and moves to the node of that number.
type flaw struct {
	starts, moves int
	stop          bool
	node          string
}

func flawOf(sid string) flaw {
	kind, digits, _ := strings.Cut(sid, ":")
	if kind != "fa" {
		return flaw{}
	}
	digit := func(i int) int {
		if i < len(digits) && digits[i] >= '0' && digits[i] <= '9' {
			return int(digits[i] - '0')
		}
		return 0
	}
	f := flaw{starts: digit(1), moves: digit(2), stop: digit(3) != 0}
	if n := digit(5); n != 0 {
		f.node = fmt.Sprintf("node%d", n)
	}
	return f
}

// attempt is something that may fail some times.
type attempt struct{ sid, verb string }

// fails counts an attempt and says whether it fails. One that works makes the
// next ones fail again.
func (c *Cluster) fails(a attempt, node string) bool {
	f := flawOf(a.sid)
	allowed := f.starts
	if a.verb == "move" {
		allowed = f.moves
	}
	if f.node != "" && f.node != node || c.failures[a] >= allowed {
		delete(c.failures, a)
		return false
	}
	c.failures[a]++
	return true
}
