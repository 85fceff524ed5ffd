package cfstest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
)

// formed runs do in a cluster whose nodes all vote, under virtual time.
func formed(t *testing.T, seed uint64, size int, do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Duration(seed) * time.Millisecond)
		w := newWorld(seed, size, sound)
		w.quiet = true
		for _, id := range w.ids() {
			w.boot(w.members[id])
		}
		w.after(0, w.operate)
		w.runUntil(10 * time.Second)
		if l := w.leader(); l == nil || len(l.node.Status().Voters) != size {
			t.Fatalf("seed %d: no cluster of %d voters", seed, size)
		}
		do(w)
		w.end()
		for _, f := range w.failures {
			t.Errorf("seed %d: %s", seed, f)
		}
	})
}

// isolate cuts a node off in both directions.
func (w *world) isolate(id uint64) {
	for _, other := range w.ids() {
		if other != id {
			w.net.cut[[2]uint64{id, other}], w.net.cut[[2]uint64{other, id}] = true, true
		}
	}
}

// TestANodeThatIsCutOffRefusesWithinASecond cuts followers and leaders off.
func TestANodeThatIsCutOffRefusesWithinASecond(t *testing.T) {
	withBubbleRandom(t)
	longest := time.Duration(0)
	for seed := range uint64(16) {
		formed(t, seed, 3+int(seed%3), func(w *world) {
			id := w.leader().id
			if seed%2 == 0 {
				id = 1 + id%uint64(len(w.members))
			}
			w.runUntil(w.now() + w.between(0, time.Second))
			w.isolate(id)
			cut, node := w.now(), w.members[id].run.node
			for node.Quorate() && w.now() < cut+5*time.Second {
				w.runUntil(w.now() + 5*time.Millisecond)
			}
			longest = max(longest, w.now()-cut)
			if _, err := node.Propose(t.Context(), &command.Command{Op: command.Noop}); !errors.Is(err, consensus.ErrNoQuorum) || errors.Is(err, consensus.ErrUncertain) {
				t.Errorf("seed %d: a node without quorum answers %v", seed, err)
			}
			w.net.cut = map[[2]uint64]bool{}
			w.runUntil(w.now() + 5*time.Second)
		})
	}
	t.Logf("longest %v", longest)
	if longest > 1100*time.Millisecond {
		t.Errorf("a node that was cut off was quorate for %v", longest)
	}
}

// probe writes at a node every 10 ms and notes what that is like.
type probe struct {
	mu               sync.Mutex // guards the rest: several may be answered at once
	longest          time.Duration
	refused, unknown int
}

func (p *probe) at(w *world, run *incarnation, until time.Duration) {
	if w.now() >= until {
		return
	}
	w.after(10*time.Millisecond, func() { p.at(w, run, until) })
	begun := w.now()
	w.deeds++
	c := &command.Command{ID: w.deeds, Op: command.Write, Path: "f"}
	go func() {
		_, err := run.node.Propose(context.Background(), c)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.longest = max(p.longest, w.now()-begun)
		switch {
		case errors.Is(err, consensus.ErrUncertain):
			p.unknown++
		case err != nil:
			p.refused++
		}
	}()
}

// TestAnElectionDelaysWritersAndRefusesNone loses the leader while the others
// write, by a crash and by a clean stop.
func TestAnElectionDelaysWritersAndRefusesNone(t *testing.T) {
	withBubbleRandom(t)
	for _, loss := range []struct {
		name   string
		of     func(*world, *member)
		within time.Duration
	}{
		{"crash", func(w *world, m *member) { w.crash(m, never) }, 1100 * time.Millisecond},
		{"stop", (*world).halt, 100 * time.Millisecond},
	} {
		t.Run(loss.name, func(t *testing.T) {
			total := probe{}
			for seed := range uint64(20) {
				formed(t, seed, 3+int(seed%3), func(w *world) {
					l := w.leader()
					p := probe{}
					for _, id := range w.ids() {
						if id != l.id {
							w.after(0, func() { p.at(w, w.members[id].run, w.now()+3*time.Second) })
						}
					}
					w.after(w.between(100*time.Millisecond, time.Second), func() { loss.of(w, w.members[l.id]) })
					w.runUntil(w.now() + 5*time.Second)
					total.longest = max(total.longest, p.longest)
					total.refused += p.refused
					total.unknown += p.unknown
					w.boot(w.members[l.id])
					w.runUntil(w.now() + 5*time.Second)
				})
			}
			t.Logf("longest wait %v", total.longest)
			if total.longest > loss.within || total.refused+total.unknown > 0 {
				t.Errorf("longest wait %v, %d refused, %d uncertain", total.longest, total.refused, total.unknown)
			}
		})
	}
}

// TestFiftyNodesFollow forms a large cluster: five vote, the others listen. What a
// commit costs the leader must be what five voters cost. Where no voter tells the
// learners, the leader must notice and do it itself.
func TestFiftyNodesFollow(t *testing.T) {
	withBubbleRandom(t)
	for _, c := range []struct {
		size    int
		mute    bool
		bytes   int
		learned time.Duration
	}{{3, false, 2000, 0}, {50, false, 4000, 50 * time.Millisecond}, {50, true, 60_000, time.Second}} {
		latency, learned, bytes := costOfCommits(t, c.size, 100, c.mute)
		t.Logf("%d nodes, no voter tells %v: a commit waits %v on the network, all have it after %v, the leader sends %d bytes for it", c.size, c.mute, latency, learned, bytes)
		if latency > 20*time.Millisecond || bytes > c.bytes || learned > c.learned && c.size > 3 {
			t.Errorf("%d nodes: too much", c.size)
		}
	}
}

// costOfCommits returns the median time, all of it the network's, that a save of
// 700 bytes takes on the leader of a cluster, when the last node has the last of them,
// and what the leader sends for one, heartbeats not counted.
func costOfCommits(t *testing.T, size, saves int, mute bool) (median, learned time.Duration, bytes int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(uint64(size), size, sound)
		w.quiet, w.mostVoters, w.mute = true, 5, mute
		for _, id := range w.ids() {
			w.boot(w.members[id])
		}
		w.after(0, w.operate)
		w.runUntil(time.Duration(size) * time.Second)
		l := w.leader()
		if s := l.node.Status(); len(s.Voters) != min(size, 5) || len(s.Voters)+len(s.Learners) != size {
			t.Fatalf("%d voters and %d learners of %d nodes", len(s.Voters), len(s.Learners), size)
		}
		sent := w.sent[l.id]
		w.runUntil(w.now() + 10*time.Second)
		idle := w.sent[l.id] - sent
		begun := w.now()
		sent = w.sent[l.id]
		var waits []time.Duration
		content := noise(700)
		for i := range saves {
			w.after(0, func() {
				at := w.now()
				go func() {
					l.node.Propose(context.Background(), &command.Command{ID: uint64(i + 1), Op: command.Write, Path: "f", Data: content})
					waits = append(waits, w.now()-at)
				}()
			})
			w.runUntil(w.now() + 50*time.Millisecond)
		}
		slices.Sort(waits)
		median = waits[len(waits)/2]
		bytes = (w.sent[l.id] - sent - int(int64(idle)*int64(w.now()-begun)/int64(10*time.Second))) / saves
		learned = w.learnAfterSave(l, content)
		w.end()
		for _, f := range w.failures {
			if size < 50 {
				t.Error(f)
			}
		}
	})
	return median, learned, bytes
}

// learnAfterSave saves once more and returns after how long all nodes have it.
func (w *world) learnAfterSave(l *incarnation, content []byte) time.Duration {
	begun, last := w.now(), l.node.Status().Applied
	w.after(0, func() {
		go l.node.Propose(context.Background(), &command.Command{ID: 1 << 40, Op: command.Write, Path: "f", Data: content})
	})
	for w.now()-begun < 10*time.Second {
		w.runUntil(w.now() + time.Millisecond)
		all := true
		for _, m := range w.members {
			all = all && m.run.node.Status().Applied > last
		}
		if all {
			break
		}
	}
	return w.now() - begun
}
