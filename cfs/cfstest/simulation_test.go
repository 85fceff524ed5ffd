package cfstest

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/tree"
)

// How long the parts of a simulation last, in virtual time.
const (
	simSetUp  = 4 * time.Second
	simFaults = 10 * time.Second
	simHealed = 25 * time.Second
)

// simulate runs one seed and returns what is wrong, and the digest of all that
// happened.
func simulate(t *testing.T, seed uint64, broken mutation, engineOf func(*member, *tree.Tree) (engine, error)) (failures []string, trace string) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Duration(seed%1e9) * time.Microsecond) // see bubbleRandom
		w := newWorld(seed, 3+int(seed%3), broken)
		w.engine = engineOf
		w.live()
		w.end()
		failures, trace = w.failures, fmt.Sprintf("%x", w.trace)
	})
	return failures, trace
}

// live is the life of a cluster: it forms, works under faults, and heals.
func (w *world) live() {
	for _, id := range w.ids() {
		w.boot(w.members[id])
	}
	synctest.Wait()
	w.after(50*time.Millisecond, w.operate)
	w.after(100*time.Millisecond, w.furnish)
	w.runUntil(simSetUp)
	if _, ok := w.members[1].run.tree.Lookup("firewall"); !ok && len(w.failures) == 0 {
		w.fail("the directories were not made")
	}
	for i := range 4 {
		c := &client{id: i}
		w.clients = append(w.clients, c)
		w.work(c)
	}
	w.after(w.between(0, time.Second), w.disturb)
	w.runUntil(simSetUp + simFaults)
	w.heal()
	w.runUntil(simSetUp + simFaults + simHealed)
}

// furnish makes the directories that the clients work in.
func (w *world) furnish() {
	node := w.members[1].run.node
	go func() {
		for i, dir := range simDirs() {
			if r, err := node.Propose(context.Background(), &command.Command{ID: uint64(i + 1), Op: command.Mkdir, Path: dir}); err != nil || r.Err != nil {
				w.fail("%s: %v, %v", dir, r.Err, err)
			}
		}
	}()
}

// work lets a client do one thing after the other until the faults are over.
func (w *world) work(c *client) {
	if w.quiet {
		return
	}
	if c.busy == nil {
		w.begin(c)
	}
	w.after(w.between(5*time.Millisecond, 150*time.Millisecond), func() { w.work(c) })
}

// operate is what the leader and the operator do about the members.
func (w *world) operate() {
	w.after(w.between(100*time.Millisecond, 400*time.Millisecond), w.operate)
	l := w.leader()
	if l == nil {
		return
	}
	s := l.node.Status()
	set := func(id uint64, role consensus.Role) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		go func() {
			defer cancel()
			l.node.SetMember(ctx, id, role)
		}()
	}
	for _, id := range w.ids() {
		m := w.members[id]
		voter, listens := slices.Contains(s.Voters, id), slices.Contains(s.Learners, id)
		switch {
		case m.fresh && (voter || listens):
			set(id, consensus.Gone)
		case m.fresh && m.run != nil && s.Applied == s.Commit:
			m.fresh = false
		case m.fresh || m.run == nil:
		case !voter && !listens:
			set(id, consensus.Learner)
		case listens && w.mostVoters > 0 && len(s.Voters) >= w.mostVoters:
			continue
		case listens && m.run.node.Status().Applied+20 > s.Commit && (w.quiet || w.now() < simSetUp || w.random.IntN(3) == 0):
			set(id, consensus.Voter)
		case voter && !w.quiet && len(s.Voters) > 3 && w.random.IntN(20) == 0:
			set(id, consensus.Learner)
		default:
			continue
		}
		return
	}
}

// disturb does some harm, and more a moment later.
func (w *world) disturb() {
	if w.quiet {
		return
	}
	w.after(w.between(50*time.Millisecond, 1200*time.Millisecond), w.disturb)
	m := w.members[1+w.random.Uint64N(uint64(len(w.members)))]
	switch w.random.IntN(13) {
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
		m.held = w.now() + w.between(100*time.Millisecond, 3*time.Second)
	case 8:
		w.net.lose, w.net.double = w.random.IntN(300), w.random.IntN(300)
	case 9:
		w.net.slow = w.between(time.Millisecond, 300*time.Millisecond)
	case 10:
		w.net.lose, w.net.double, w.net.slow = 0, 0, 3*time.Millisecond
	case 11:
		if m.run != nil && m.run.mem != nil {
			m.run.mem.full = !m.run.mem.full
		}
		w.clients[w.random.IntN(len(w.clients))].clock = w.random.Int64N(1e6) - 5e5
	case 12:
		w.loseDisk(m)
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

// end checks what must hold once everything has healed, and stops all nodes.
func (w *world) end() {
	if len(w.failures) == 0 {
		w.checkConverged()
	}
	for _, c := range w.clients {
		if c.busy != nil {
			w.uncertain(c, c.busy)
		}
	}
	if len(w.failures) == 0 {
		w.checkPromises()
		w.checkHistory()
	}
	for _, m := range w.members {
		if m.run != nil {
			m.run.state = dead
			m.run.stop()
			if m.run.mem != nil {
				m.run.mem.gone = true
			}
		}
	}
	for _, c := range w.clients {
		if c.busy != nil && c.busy.cancel != nil {
			c.busy.cancel()
		}
	}
	time.Sleep(10 * time.Second) // everything ends
	synctest.Wait()
	for _, id := range w.ids() {
		if run := w.members[id].run; run != nil && run.closer != nil {
			run.closer()
		}
	}
}

// checkConverged checks that all nodes have come to the same tree.
func (w *world) checkConverged() {
	l := w.leader()
	if l == nil {
		w.fail("no leader although everything has healed")
		return
	}
	s := l.node.Status()
	for _, id := range w.ids() {
		run := w.members[id].run
		if run == nil {
			w.fail("node %d does not run", id)
			continue
		}
		now := run.node.Status()
		if now.Applied != s.Commit || !now.Quorate || w.mostVoters == 0 && !slices.Contains(s.Voters, id) {
			w.fail("node %d stands at %+v, the leader at %+v", id, now, s)
			continue
		}
		w.compare(run)
		checkTree(w, run)
	}
}

// checkTree checks the rules of a tree: counts, paths, one place for each guest.
func checkTree(w *world, run *incarnation) {
	restored, state := tree.New(), run.tree.State()
	if err := restored.Restore(state); err != nil {
		w.fail("node %d: %v", run.id, err)
	} else if !reflect.DeepEqual(restored.State(), state) {
		w.fail("node %d: counts of the tree are not those of its entries", run.id)
	}
}

// checkPromises checks that what was acknowledged is there and what was refused
// is not.
func (w *world) checkPromises() {
	for id, index := range w.acknowledged {
		if w.applied[id] != index && w.broken != countsTwice {
			w.fail("a change acknowledged at %d was applied at %d", index, w.applied[id])
		}
	}
	for id, d := range w.refused {
		if index := w.applied[id]; index != 0 {
			w.fail("%v was refused and applied at %d all the same", d, index)
		}
	}
}

// patience is how long the checker may think about one seed, in its bubble's time
// nothing.
const patience = 10 * time.Second

// checkHistory checks that the answers fit one order of all changes.
func (w *world) checkHistory() {
	for g, part := range simModel.Partition(w.history) {
		m := simModel
		m.Partition = nil
		if len(part) > 0 && porcupine.CheckOperationsTimeout(m, part, patience) == porcupine.Illegal {
			w.fail("the answers about group %d fit no order", g)
		}
	}
}

// bubbleRandom takes the place of the random source that Raft and the consensus
// ask: it depends on nothing but the virtual time, so bubbles that run side by
// side stay reproducible. A single byte is a draw of an election timeout, which
// is repeated until it is below five.
type bubbleRandom struct{}

func (bubbleRandom) Read(b []byte) (int, error) {
	source := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	if len(b) == 1 {
		b[0] %= 5
	}
	return len(b), nil
}

// withBubbleRandom prepares for bubbles. The channels of the compressor must not
// belong to one.
func withBubbleRandom(t *testing.T) {
	_, err := command.Unmarshal((&command.Command{Data: make([]byte, 5000)}).Marshal())
	must(t, err)
	was := crand.Reader
	crand.Reader = bubbleRandom{}
	t.Cleanup(func() { crand.Reader = was })
}

// seeds is how many seeds a test runs unless SEEDS says otherwise, as a number or
// as FROM-TO.
func seeds(t *testing.T, usual uint64) (from, to uint64) {
	text := os.Getenv("SEEDS")
	if text == "" {
		if testing.Short() {
			usual /= 10
		}
		return 0, usual
	}
	first, last, ranged := strings.Cut(text, "-")
	from, err := strconv.ParseUint(first, 10, 64)
	if !ranged {
		from, last = 0, first
	}
	to, err2 := strconv.ParseUint(last, 10, 64)
	if err != nil || err2 != nil {
		t.Fatalf("SEEDS=%s is neither N nor FROM-TO", text)
	}
	return from, to
}

// TestSimulatedClusterKeepsItsPromises runs whole clusters under virtual time.
func TestSimulatedClusterKeepsItsPromises(t *testing.T) {
	withBubbleRandom(t)
	from, to := seeds(t, 200)
	var next atomic.Uint64
	next.Store(from)
	t.Run("all", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < to && !t.Failed(); seed = next.Add(1) - 1 {
					report(t, seed, sound)
				}
			})
		}
	})
}

// TestSeedsThatFoundFaults repeats what was found once.
func TestSeedsThatFoundFaults(t *testing.T) {
	withBubbleRandom(t)
	for _, found := range []struct {
		seed  uint64
		fault string
	}{
		{5, "an entry was applied while the disk held the one that it replaces"},
		{26, "an entry was applied while the disk held the one that it replaces"},
		{90, "a lost snapshot was never sent again"},
		{139, "a lost snapshot was never sent again"},
	} {
		t.Run(fmt.Sprint(found.seed), func(t *testing.T) { report(t, found.seed, sound) })
	}
}

func report(t *testing.T, seed uint64, broken mutation) {
	t.Helper()
	failures, _ := simulate(t, seed, broken, nil)
	for _, f := range failures {
		t.Errorf("seed %d: %s", seed, f)
	}
}

// TestTheSimulationNoticesBrokenPromises breaks them one at a time.
func TestTheSimulationNoticesBrokenPromises(t *testing.T) {
	withBubbleRandom(t)
	for broken, name := range map[mutation]string{lateSync: "late sync", countsTwice: "repeated commands", readsBehind: "stale reads"} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if failures, _ := simulate(t, seed, broken, nil); len(failures) > 0 {
					t.Logf("seed %d: %s", seed, failures[0])
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
