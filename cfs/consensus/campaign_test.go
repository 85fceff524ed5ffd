package consensus

import (
	"testing"
	"time"
)

// A leader that is lost at any moment between two of its heartbeats is replaced
// before the longest of Raft's own election timeouts is over.
func TestALostLeaderIsReplacedSoon(t *testing.T) {
	const most = 600 * time.Millisecond
	for _, size := range []int{3, 5} {
		for moment := time.Duration(0); moment < TickEvery; moment += TickEvery / 10 {
			inGroup(t, size, func(g *group) {
				time.Sleep(time.Duration(time.Now().UnixNano())%TickEvery + moment)
				lost := g.leader()
				begun := time.Now()
				g.isolate(lost.Status().ID, true)
				for !g.succeeded(lost) {
					if time.Sleep(time.Millisecond); time.Since(begun) > most {
						g.t.Fatalf("%d nodes, lost %v after a tick: no leader within %v", size, moment, most)
					}
				}
			})
		}
	}
}

// succeeded reports whether somebody else leads a majority.
func (g *group) succeeded(lost *machine) bool {
	for _, m := range g.others(lost) {
		if s := m.Status(); s.Leader == s.ID && s.Quorate {
			return true
		}
	}
	return false
}
