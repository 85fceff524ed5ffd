package cfstest

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/tree"
)

// world is a cluster under virtual time: one seed decides everything. It runs in
// a bubble of testing/synctest, one event after the other, and waits after each
// until all goroutines rest.
type world struct {
	seed    uint64
	random  *rand.Rand
	broken  mutation
	begun   time.Time
	events  events
	step    int64
	trace   *trace
	counts  counts
	members map[uint64]*member
	sorted  []uint64 // ids of the members
	clients []*client
	net     weather
	quiet   bool // the faults are over

	mostVoters int            // 0: all
	mute       bool           // no voter tells the learners
	sent       map[uint64]int // bytes, by sender
	posted     uint64         // number of messages so far
	latest     map[[2]uint64]uint64

	engine func(*member, *tree.Tree) (engine, error) // nil: memory

	deeds        uint64
	history      []porcupine.Operation
	acknowledged map[uint64]uint64 // command → index
	refused      map[uint64]deed
	entries      map[uint64]committed // index → what every node applied there
	applied      map[uint64]uint64    // command → index of its first entry
	marks        map[uint64]mark      // command → what it put on a lock
	trees        map[uint64]uint64    // index → digest of the tree
	leaders      map[uint64]uint64    // term → leader
	newest       uint64               // term of a leader
	failures     []string
}

// engine is where a node keeps its log and its tree.
type engine interface {
	consensus.Storage
	consensus.Applier
}

type committed struct{ term, digest uint64 }

// weather is what the network does to messages.
type weather struct {
	lose, double int // in 1000
	slow         time.Duration
	cut          map[[2]uint64]bool // from, to
}

// member is a machine: its disk outlives its power.
type member struct {
	id    uint64
	disk  *plates
	known uint64       // index that its last run had applied
	run   *incarnation // nil: without power
	fresh bool         // has lost its disk and stays silent
	held  time.Duration
}

// state of an incarnation.
type state uint8

const (
	running state = iota
	leaving       // was asked to stop
	dead
)

// incarnation is one run of a node's daemon.
type incarnation struct {
	w      *world
	id     uint64
	node   *consensus.Node
	tree   *tree.Tree
	mem    *memory // nil with another engine
	state  state
	stop   context.CancelFunc
	ticks  chan time.Time
	out    []parcel // sent in this step
	did    []note   // in this step
	err    error
	ended  atomic.Bool
	led    bool   // when it was asked to stop
	told   uint64 // index up to which it has told learners
	closer func()

	voters, learners []uint64 // as it has shown them
}

// parcel is a message on its way.
type parcel struct {
	from, to uint64
	body     []byte
	number   uint64 // rises on each way
}

// Send implements consensus.Transport.
func (r *incarnation) Send(to uint64, message []byte) {
	r.out = append(r.out, parcel{from: r.id, to: to, body: message})
}

// watched shows the world what a node applies.
type watched struct {
	engine
	run *incarnation
}

func (a watched) Apply(entries []command.Entry, members []byte) ([]tree.Result, []tree.Change, error) {
	results, changes, err := a.engine.Apply(entries, members)
	if err == nil {
		a.run.w.applies(a.run, entries)
		for _, c := range changes {
			if _, marked := a.run.w.marks[c.ID]; !marked && c.Path == placePath(lockGroup, 0) {
				a.run.w.marks[c.ID] = mark{c.Inode, c.Version}
			}
		}
	}
	return results, changes, err
}

func (a watched) Install(s command.Snapshot) ([]tree.Change, error) {
	was := a.run.tree.Index()
	changes, err := a.engine.Install(s)
	if err == nil && was > 0 {
		a.run.w.count("tree sent to a node that was far behind")
	} else if err == nil {
		a.run.w.count("tree sent to a new node")
	}
	return changes, err
}

// simEvent is something that will happen.
type simEvent struct {
	at    time.Duration
	order int
	do    func()
}

func newWorld(seed uint64, size int, broken mutation) *world {
	w := &world{
		seed: seed, random: rand.New(rand.NewPCG(seed, 1)), broken: broken, begun: time.Now(), members: map[uint64]*member{},
		net: weather{slow: 3 * time.Millisecond, cut: map[[2]uint64]bool{}}, trace: newTrace(), counts: counts{},
		acknowledged: map[uint64]uint64{}, refused: map[uint64]deed{}, entries: map[uint64]committed{},
		applied: map[uint64]uint64{}, marks: map[uint64]mark{}, trees: map[uint64]uint64{}, leaders: map[uint64]uint64{}, sent: map[uint64]int{}, latest: map[[2]uint64]uint64{},
	}
	for id := uint64(1); id <= uint64(size); id++ {
		w.members[id] = &member{id: id, disk: &plates{}}
	}
	return w
}

func (w *world) now() time.Duration { return time.Since(w.begun) }

func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.random.Int64N(int64(to-from)))
}

func (w *world) after(d time.Duration, do func()) {
	w.events.count++
	heap.Push(&w.events, simEvent{w.now() + d, w.events.count, do})
}

func (w *world) fail(format string, args ...any) {
	if len(w.failures) < 10 {
		w.failures = append(w.failures, fmt.Sprintf("%v: ", w.now())+fmt.Sprintf(format, args...))
	}
}

// note adds to the trace.
func (w *world) note(what string, numbers ...uint64) {
	w.trace.add(w.now(), note{what, numbers})
}

// runUntil lets time pass.
func (w *world) runUntil(end time.Duration) {
	for len(w.events.list) > 0 && w.events.list[0].at <= end && len(w.failures) == 0 {
		e := heap.Pop(&w.events).(simEvent)
		time.Sleep(e.at - w.now())
		w.step++
		e.do()
		synctest.Wait()
		w.settle()
	}
	time.Sleep(max(0, end-w.now()))
}

// settle looks at what the last step has brought.
func (w *world) settle() {
	for _, id := range w.ids() {
		if run := w.members[id].run; run != nil {
			w.observe(w.members[id], run)
			w.tell(run)
		}
	}
	w.step++
	w.collect()
}

func (w *world) ids() []uint64 {
	if len(w.sorted) != len(w.members) {
		w.sorted = slices.Sorted(maps.Keys(w.members))
	}
	return w.sorted
}

func (w *world) observe(m *member, run *incarnation) {
	for _, did := range run.did {
		w.trace.add(w.now(), did)
	}
	out := run.out
	run.out, run.did = nil, nil
	if run.state != dead {
		for _, p := range out {
			w.post(run, p)
		}
	}
	if s := run.node.Status(); s.Leader == run.id && run.state == running {
		if other, ok := w.leaders[s.Term]; ok && other != run.id {
			w.fail("term %d has two leaders, %d and %d", s.Term, other, run.id)
		}
		if w.leaders[s.Term] == 0 {
			w.count("leader elected")
		}
		w.leaders[s.Term], w.newest = run.id, max(w.newest, s.Term)
		w.countMembers(run, s)
	}
	if !run.ended.Load() {
		return
	}
	if s := run.node.Status(); run.state == leaving && run.led && s.Leader != run.id && s.Leader != 0 {
		w.count("leadership handed over")
	}
	if run.err != nil && run.state == running && !errors.Is(run.err, errPower) && !errors.Is(run.err, errFull) {
		w.fail("node %d ended: %v", m.id, run.err)
	}
	if errors.Is(run.err, errPower) && run.mem != nil {
		w.count([]string{"", "power failed before a sync", "power failed after a sync"}[run.mem.fails])
	} else if errors.Is(run.err, errFull) {
		w.count("disk full in a sync")
	}
	m.known = run.tree.Index()
	run.state = dead
	if run.closer != nil {
		run.closer()
	}
	m.run = nil
}

// post hands a message to the network.
func (w *world) post(run *incarnation, p parcel) {
	w.note("message", p.from, p.to, digest(p.body))
	if w.members[p.from].fresh {
		return
	}
	w.sent[p.from] += len(p.body)
	m := &raftpb.Message{}
	if err := proto.Unmarshal(p.body, m); err != nil {
		w.fail("message: %v", err)
	}
	lost := w.random.IntN(1000) < w.net.lose
	copies := 1
	if w.random.IntN(1000) < w.net.double {
		copies = 2
		w.count("message doubled")
	}
	if lost {
		w.count("message lost")
	}
	w.posted++
	p.number = w.posted
	for range copies {
		w.after(w.between(100*time.Microsecond, w.net.slow), func() {
			arrived := !lost && w.deliver(p)
			if m.GetType() == raftpb.MsgSnap && w.random.IntN(2) > 0 { // small ones are not reported
				w.after(time.Millisecond, func() { run.node.SnapshotSent(p.to, arrived) })
			}
			if !arrived && w.seed%3 == 2 && p.number%5 == 0 { // in some worlds streams notice
				w.count("stream broken")
				w.after(20*time.Millisecond, func() { run.node.Unreachable(p.to) })
			}
		})
	}
}

// deliver brings a message to a node, if nothing is in the way.
func (w *world) deliver(p parcel) bool {
	to, way := w.members[p.to], [2]uint64{p.from, p.to}
	if to == nil || to.run == nil || to.run.state == dead || to.run.ended.Load() || to.fresh {
		return false
	}
	if w.net.cut[way] {
		if w.net.cut[[2]uint64{p.to, p.from}] {
			w.count("message cut off")
		} else {
			w.count("message cut off one way")
		}
		return false
	}
	if wait := to.held - w.now(); wait > 0 {
		w.count("message held up")
		w.after(wait+w.between(0, time.Millisecond), func() { w.deliver(p) })
		return true
	}
	if p.number < w.latest[way] {
		w.count("message overtaken")
	}
	w.latest[way] = max(w.latest[way], p.number)
	return to.run.node.Step(context.Background(), p.body) == nil
}

// boot gives a machine power. The first one forms the group.
func (w *world) boot(m *member) {
	if m.run != nil {
		w.after(100*time.Millisecond, func() { w.boot(m) })
		return
	}
	run := &incarnation{w: w, id: m.id, tree: tree.New(), ticks: make(chan time.Time, 1)}
	var e engine
	var err error
	if w.engine != nil {
		e, err = w.engine(m, run.tree)
		if c, ok := e.(interface{ halt() }); ok {
			run.closer = c.halt
		}
	} else {
		run.mem, err = newMemory(m.disk, run.tree, rand.New(rand.NewPCG(w.random.Uint64(), 2)), w.broken)
		e = run.mem
		if run.mem != nil {
			run.mem.id = m.id
		}
		if m.disk.applied.Index < m.known && m.disk.last() >= m.known {
			w.count("tree lost and replayed from the log")
		}
	}
	if err != nil {
		w.fail("node %d does not start: %v", m.id, err)
		return
	}
	w.note("boot", m.id)
	run.node, err = consensus.New(consensus.Options{ID: m.id, Storage: e, Applier: watched{e, run}, Transport: run, Join: m.id > 1 || len(w.entries) > 0, Ticks: run.ticks, Log: w.logOf(m.id)})
	if err != nil {
		w.fail("node %d does not start: %v", m.id, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	run.stop, m.run = cancel, run
	go func() {
		defer func() {
			if p := recover(); p != nil {
				run.err = fmt.Errorf("panic: %v", p)
			}
			run.ended.Store(true)
		}()
		run.err = run.node.Run(ctx)
	}()
	w.after(w.between(0, consensus.TickEvery), func() { w.tick(m, run) })
	synctest.Wait() // only one node moves at a time
}

func (w *world) tick(m *member, run *incarnation) {
	if run.state == dead {
		return
	}
	if w.now() >= m.held {
		select {
		case run.ticks <- time.Now():
		default:
		}
	}
	const jitter = consensus.TickEvery / 20
	w.after(consensus.TickEvery+w.between(-jitter, jitter), func() { w.tick(m, run) })
}

// crash takes the power away: at once, or around the next append.
func (w *world) crash(m *member, at when) {
	run := m.run
	if run == nil || run.state != running {
		return
	}
	if at != never && run.mem != nil {
		run.mem.fails = at
		return
	}
	w.count("power failed")
	w.note("crash", m.id)
	m.known = run.tree.Index()
	run.state = dead
	run.stop()
	if run.mem != nil {
		run.mem.gone = true
		m.run = nil // what is left of it touches nothing any more
	}
}

// halt asks a daemon to stop.
func (w *world) halt(m *member) {
	if run := m.run; run != nil && run.state == running {
		run.led = w.leader() == run
		run.state = leaving
		run.stop()
	}
}

// applies compares what one node applies with what the others did.
func (w *world) applies(run *incarnation, entries []command.Entry) {
	for _, e := range entries {
		now := committed{e.Term, digest(e.Data)}
		if before, ok := w.entries[e.Index]; ok && before != now {
			w.fail("node %d applies another entry at %d than others did", run.id, e.Index)
		}
		w.entries[e.Index] = now
		run.did = append(run.did, note{"apply", []uint64{run.id, e.Index, e.Term, now.digest}})
		if id := command.IDOf(e.Data); e.Kind == command.Change && id != 0 && w.applied[id] == 0 {
			w.applied[id] = e.Index
		}
	}
	last := entries[len(entries)-1].Index
	if last%4 > 0 {
		return
	}
	w.compare(run)
}

// compare checks that trees at one index are equal.
func (w *world) compare(run *incarnation) {
	index, sum := run.tree.Index(), digest(run.tree.State().Marshal())
	if before, ok := w.trees[index]; ok && before != sum {
		w.fail("node %d has another tree at %d than others had", run.id, index)
	}
	w.trees[index] = sum
}

// leader returns the node that leads a majority, if one does.
func (w *world) leader() *incarnation {
	for _, id := range w.ids() {
		if run := w.members[id].run; run != nil && run.state == running {
			if s := run.node.Status(); s.Leader == id && s.Quorate && w.leaders[s.Term] == id && s.Term == w.newest {
				return run
			}
		}
	}
	return nil
}

type events struct {
	list  []simEvent
	count int
}

func (e events) Len() int { return len(e.list) }
func (e events) Less(i, j int) bool {
	a, b := e.list[i], e.list[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}
func (e events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)   { e.list = append(e.list, x.(simEvent)) }
func (e *events) Pop() any {
	last := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return last
}
