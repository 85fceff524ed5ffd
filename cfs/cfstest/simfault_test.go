package cfstest

import (
	"context"
	"time"

	"etcpve/cfs/consensus"
)

// disturb does some harm, and more a moment later.
func (w *world) disturb() {
	if w.quiet {
		return
	}
	w.after(w.between(50*time.Millisecond, 1200*time.Millisecond), w.disturb)
	m := w.members[1+w.random.Uint64N(uint64(len(w.members)))]
	switch w.random.IntN(15) {
	case 0, 1:
		w.divide(w.random.IntN(3) == 0)
	case 2, 3:
		clear(w.net.cut)
	case 4, 5:
		w.crash(m, when(w.random.IntN(3)))
		w.restartLater(m)
	case 6:
		w.halt(m)
		w.restartLater(m)
	case 7:
		w.count("node stopped for a moment")
		m.held = w.now() + w.between(100*time.Millisecond, 3*time.Second)
	case 8:
		w.net.lose, w.net.double = w.random.IntN(300), w.random.IntN(300)
	case 9:
		w.net.slow = w.between(time.Millisecond, 300*time.Millisecond)
	case 10:
		w.net.lose, w.net.double, w.net.slow = 0, 0, 3*time.Millisecond
	case 11:
		if m.run != nil && m.run.mem != nil {
			w.count("disk full")
			m.run.mem.full = !m.run.mem.full
		}
	case 12:
		w.loseDisk(m)
	case 13:
		w.count("clock set")
		w.clients[w.random.IntN(len(w.clients))].clock = w.random.Int64N(1e6) - 5e5
	case 14:
		w.rareHarm(m)
	}
}

// rareHarm ends nodes.
func (w *world) rareHarm(m *member) {
	if w.random.IntN(3) > 0 {
		w.crash(m, fullAppend)
		w.restartLater(m)
		return
	}
	w.count("all nodes without power")
	for _, id := range w.ids() {
		w.crash(w.members[id], never)
		w.restartLater(w.members[id])
	}
}

func (w *world) restartLater(m *member) {
	off := w.between(time.Millisecond, 4*time.Second)
	if w.random.IntN(2) == 0 {
		off /= 40
	}
	w.after(off, func() {
		if m.run == nil {
			w.boot(m)
		} else if m.run.state != running {
			w.boot(m) // once it has ended
		} else if m.run.mem != nil && m.run.mem.fails != never { // nothing was appended meanwhile
			m.run.mem.fails = never
		}
	})
}

// divide cuts links between two parts of the cluster, or only in one direction.
func (w *world) divide(oneWay bool) {
	side := map[uint64]bool{}
	for _, id := range w.ids() {
		side[id] = w.random.IntN(2) == 0
	}
	for _, a := range w.ids() {
		for _, b := range w.ids() {
			w.net.cut[[2]uint64{a, b}] = side[a] != side[b] && (!oneWay || side[a])
		}
	}
}

// loseDisk replaces the disk of a machine by an empty one. A majority of the
// others must be able to go on without it.
func (w *world) loseDisk(m *member) {
	l := w.leader()
	if w.engine != nil || l == nil || l.id == m.id || m.run == nil || m.run.state != running || len(l.node.Status().Voters) < 3 {
		return
	}
	for _, other := range w.members {
		if other.fresh {
			return
		}
	}
	w.crash(m, never)
	w.count("disk lost")
	m.disk, m.fresh = &plates{}, true
	w.restartLater(m)
}

// heal ends all faults.
func (w *world) heal() {
	w.quiet = true
	w.net = weather{slow: 3 * time.Millisecond, cut: map[[2]uint64]bool{}}
	for _, id := range w.ids() {
		m := w.members[id]
		m.held = 0
		if m.run == nil {
			w.boot(m)
		} else if m.run.mem != nil {
			m.run.mem.fails, m.run.mem.full = never, false
		}
	}
}

// gossip lets a node tell another one what it knows to be committed, now and then,
// as the announcements of gossip make them do.
func (w *world) gossip() {
	w.after(w.between(20*time.Millisecond, 400*time.Millisecond), w.gossip)
	from, to := w.members[1+w.random.Uint64N(uint64(len(w.members)))], w.members[1+w.random.Uint64N(uint64(len(w.members)))]
	if from == to || from.run == nil || to.run == nil || from.fresh || to.fresh {
		return
	}
	teller, known := from.run, to.run.node.Status().Commit
	if known == 0 || known >= teller.node.Status().Commit {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.after(3*time.Second, cancel)
	var bundle []byte
	go func() { bundle, _ = teller.node.Committed(ctx, known) }()
	w.after(w.between(time.Millisecond, w.net.slow+time.Millisecond), func() {
		run := to.run
		if len(bundle) == 0 || run == nil || run.ended.Load() || run.state == dead || to.fresh || w.net.cut[[2]uint64{from.id, to.id}] {
			return
		}
		go func() {
			if run.node.Feed(ctx, bundle) == nil {
				w.count("entries from others than the leader")
			}
		}()
	})
}

// tell lets a voter that follows tell its share of the learners what it has heard to be
// committed, in some worlds. In the others learners must get it by themselves.
func (w *world) tell(run *incarnation) {
	if w.mute || w.mostVoters == 0 && w.seed%3 != 1 || run.state != running {
		return
	}
	s := run.node.Status()
	share := consensus.ShareOf(run.id, s, func(id uint64) bool {
		m := w.members[id]
		return m != nil && m.run != nil && m.run.state == running
	})
	after := run.told
	if run.told = s.Commit; after == 0 || s.Commit <= after || len(share) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.after(3*time.Second, cancel)
	var bundle []byte
	w.after(0, func() {
		go func() { bundle, _ = run.node.Committed(ctx, after) }()
	})
	for _, id := range share {
		to := w.members[id]
		w.after(w.between(100*time.Microsecond, w.net.slow), func() {
			w.sent[run.id] += len(bundle)
			if heard := to.run; len(bundle) > 0 && heard != nil && heard.state == running && !to.fresh && !w.net.cut[[2]uint64{run.id, id}] {
				go func() {
					if heard.node.Feed(ctx, bundle) == nil {
						w.count("learner told by a voter")
					}
				}()
			}
		})
	}
}
