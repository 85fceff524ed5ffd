package cfstest

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// simSizes are the sizes of the clusters of successive seeds.
var simSizes = []int{3, 4, 5, 3, 2, 5, 3, 7}

// scenario is what decides about a simulation.
type scenario struct {
	seed   uint64
	broken mutation
	engine func(*member, *tree.Tree) (engine, error) // nil: memory
	loud   bool                                      // keep the text of the trace
}

// account is what is left of a simulation.
type account struct {
	failures []string
	digest   uint64 // of all that happened
	text     string
	counts   counts
}

// simulate runs one seed.
func simulate(t *testing.T, s scenario) (a account) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Duration(s.seed%1e9) * time.Microsecond) // see bubbleRandom
		w := newWorld(s.seed, simSizes[s.seed%uint64(len(simSizes))], s.broken)
		w.engine = s.engine
		if s.loud {
			w.trace.text = &strings.Builder{}
		}
		w.live()
		w.end()
		a = account{failures: w.failures, digest: w.trace.hash.Sum64(), counts: w.counts}
		if s.loud {
			a.text = w.trace.text.String()
		}
	})
	return a
}

// live is the life of a cluster: it forms, works under faults, and heals.
func (w *world) live() {
	for _, id := range w.ids() {
		w.boot(w.members[id])
	}
	synctest.Wait()
	w.after(50*time.Millisecond, w.operate)
	w.after(simSetUp, w.gossip)
	w.after(100*time.Millisecond, w.furnish)
	w.runUntil(simSetUp)
	if _, ok := w.members[1].run.tree.Lookup("firewall"); !ok && len(w.failures) == 0 {
		w.fail("the directories were not made")
	}
	for i := range 4 {
		c := &client{id: i}
		w.clients = append(w.clients, c)
		w.after(w.between(0, 10*time.Millisecond), func() { w.work(c) }) // never two at once
	}
	w.after(w.between(0, time.Second), w.disturb)
	w.runUntil(simSetUp + simFaults)
	w.heal()
	for end := w.now() + simHealed; w.now() < end && len(w.failures) == 0 && !w.converged(); {
		w.runUntil(w.now() + time.Second)
	}
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
		ctx, cancel := context.WithCancel(context.Background())
		w.after(2*time.Second, cancel)
		go func() {
			l.node.SetMember(ctx, s, id, role)
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
	w.note("history", digest(fmt.Append(nil, w.history)))
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

// TestSimulatedClusterKeepsItsPromises runs whole clusters under virtual time, and
// checks that there was harm of every kind.
func TestSimulatedClusterKeepsItsPromises(t *testing.T) {
	withBubbleRandom(t)
	from, to := seeds(t, 1000)
	var next atomic.Uint64
	next.Store(from)
	var mu sync.Mutex // guards harm
	harm := counts{}
	t.Run("all", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < to && !t.Failed(); seed = next.Add(1) - 1 {
					c := report(t, seed)
					mu.Lock()
					harm.add(c)
					mu.Unlock()
				}
			})
		}
	})
	for _, what := range simFaultNames {
		t.Logf("%8d %s", harm[what], what)
		if harm[what] == 0 && to-from >= 100 {
			t.Errorf("never: %s", what)
		}
	}
}

// TestSeedsThatFoundFaults repeats what was found once. Whoever changes what a seed
// means takes the fault back for a moment and looks for seeds that find it again.
func TestSeedsThatFoundFaults(t *testing.T) {
	withBubbleRandom(t)
	for _, found := range []struct {
		seed  uint64
		fault string
	}{
		{26, "an entry was applied while the disk held the one that it replaces"},
		{63, "an entry was applied while the disk held the one that it replaces"},
		{592, "a leader without quorum did not notice that it had it again"},
		{1554, "a leader without quorum did not notice that it had it again"},
		{214, "a lost snapshot was never sent again"},
		{351, "a lost snapshot was never sent again"},
	} {
		t.Run(fmt.Sprint(found.seed), func(t *testing.T) { report(t, found.seed) })
	}
}

func report(t *testing.T, seed uint64) counts {
	t.Helper()
	a := simulate(t, scenario{seed: seed})
	for _, f := range a.failures {
		t.Errorf("seed %d: %s", seed, f)
	}
	return a.counts
}

// TestASeedDecidesEverything runs seeds again on one processor, and again on all
// of them beside other work.
func TestASeedDecidesEverything(t *testing.T) {
	withBubbleRandom(t)
	from, to := seeds(t, 25)
	for seed := from; seed < to; seed++ {
		first := simulate(t, scenario{seed: seed, loud: true})
		for name, again := range map[string]func() account{
			"again":            func() account { return simulate(t, scenario{seed: seed, loud: true}) },
			"on one processor": func() account { return onOneProcessor(t, seed) },
			"beside work":      func() account { return besideWork(t, seed) },
		} {
			second := again()
			if second.digest != first.digest || second.text != first.text {
				t.Errorf("seed %d went two ways %s: %s", seed, name, difference(first.text, second.text))
			}
		}
	}
}

func onOneProcessor(t *testing.T, seed uint64) account {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	return simulate(t, scenario{seed: seed, loud: true})
}

// besideWork runs a seed while other goroutines want the processors, too.
func besideWork(t *testing.T, seed uint64) account {
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for ctx.Err() == nil {
				digest(make([]byte, 64<<10))
			}
		})
	}
	defer working.Wait()
	defer cancel()
	return simulate(t, scenario{seed: seed, loud: true})
}

// difference returns the first line in which two traces differ.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %q or %q", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d or %d lines", len(x), len(y))
}

// TestTheSimulationNoticesBrokenPromises breaks them one at a time.
func TestTheSimulationNoticesBrokenPromises(t *testing.T) {
	withBubbleRandom(t)
	for _, lie := range []struct {
		name   string
		broken mutation
		notice string
	}{
		{"late sync", lateSync, ""},
		{"repeated commands", countsTwice, ""},
		{"stale reads", readsBehind, "fit no order"},
		{"one node in disorder", disordered, "another tree"},
		{"writes forgotten", forgetsWrites, "fit no order"},
		{"locks given away twice", locksTwice, fmt.Sprintf("group %d fit no order", lockGroup)},
		{"renewed locks expire", expiresRenewed, fmt.Sprintf("group %d fit no order", lockGroup)},
		{"guests in two places", guestsTwice, fmt.Sprintf("group %d fit no order", guestGroup)},
		{"uncertain changes denied", deniesUncertain, "was refused and applied"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(300) {
				for _, f := range simulate(t, scenario{seed: seed, broken: lie.broken}).failures {
					if strings.Contains(f, lie.notice) {
						t.Logf("seed %d: %s", seed, f)
						return
					}
				}
			}
			t.Error("nobody noticed")
		})
	}
}
