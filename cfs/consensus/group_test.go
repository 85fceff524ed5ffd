package consensus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// delay is how long a message travels.
const delay = time.Millisecond

// group is a cluster under virtual time.
type group struct {
	t       *testing.T
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	nodes map[uint64]*machine
	cut   map[uint64]bool                       // off the network
	drop  func(m *raftpb.Message) bool          // what gets lost, if anything
	slow  func(m *raftpb.Message) time.Duration // what travels longer
}

// machine is a node: its disk outlives its runs.
type machine struct {
	*Node
	disk  *disk
	stop  context.CancelFunc
	ended chan error // has the one result of Run
}

// inGroup runs do with a cluster of voters, the first of which leads it.
func inGroup(t *testing.T, size int, do func(g *group)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &group{t: t, nodes: map[uint64]*machine{}, cut: map[uint64]bool{}}
		defer g.running.Wait()
		defer g.stop()
		for id := uint64(1); id <= uint64(size); id++ {
			g.start(id, newDisk(), id > 1)
		}
		for id := uint64(2); id <= uint64(size); id++ {
			g.set(id, Learner)
			g.set(id, Voter)
		}
		for id, m := range g.nodes { // all must know that all vote
			for tries := 0; len(m.Status().Voters) != size || !m.Quorate(); tries++ {
				if time.Sleep(TickEvery); tries == 100 {
					t.Fatalf("node %d: %+v", id, m.Status())
				}
			}
		}
		do(g)
	})
}

func (g *group) stop() {
	for _, m := range g.nodes {
		m.stop()
	}
}

func (g *group) start(id uint64, d *disk, join bool) *machine {
	g.t.Helper()
	node, err := New(Options{ID: id, Storage: d, Applier: d, Transport: wire{g, id}, Join: join})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &machine{Node: node, disk: d, stop: stop, ended: make(chan error, 1)}
	g.mu.Lock()
	g.nodes[id] = m
	g.mu.Unlock()
	g.running.Go(func() { m.ended <- node.Run(ctx) })
	return m
}

// kill ends a node as a crash would: nobody hears from it again.
func (g *group) kill(id uint64) {
	g.isolate(id, true)
	g.nodes[id].stop()
	<-g.nodes[id].ended
}

func (g *group) isolate(id uint64, off bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut[id] = off
}

// hamper loses messages, or lets them travel longer.
func (g *group) hamper(drop func(*raftpb.Message) bool, slow func(*raftpb.Message) time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop, g.slow = drop, slow
}

// leader waits until a node leads a majority.
func (g *group) leader() *machine {
	g.t.Helper()
	for range 300 {
		for id, m := range g.nodes {
			if s := m.Status(); s.Leader == id && s.Quorate && !g.cut[id] {
				return m
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.t.Fatal("no leader")
	return nil
}

// set gives a node a role, and waits until it is settled.
func (g *group) set(id uint64, role Role) {
	g.t.Helper()
	for range 50 {
		l := g.leader()
		err := l.SetMember(g.within(time.Second), l.Status(), id, role)
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.t.Fatalf("node %d does not get its role", id)
}

func (g *group) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	g.t.Cleanup(cancel)
	return ctx
}

// save writes a file at a node and says how long that took.
func (g *group) save(m *machine, path string) (time.Duration, error) {
	begun := time.Now()
	r, err := m.Propose(g.within(20*time.Second), &command.Command{Op: command.Write, Path: path, Data: []byte(path)})
	return time.Since(begun), errors.Join(err, r.Err)
}

func (g *group) mustSave(m *machine, path string) {
	g.t.Helper()
	if _, err := g.save(m, path); err != nil {
		g.t.Fatalf("save %s: %v", path, err)
	}
}

// same waits until nodes have the same tree.
func (g *group) same(nodes ...*machine) {
	g.t.Helper()
	content := func(m *machine) string {
		s := m.disk.tree.State()
		s.Index = 0
		return string(s.Marshal())
	}
	for range 300 {
		equal := true
		for _, m := range nodes[1:] {
			equal = equal && content(m) == content(nodes[0])
		}
		if equal {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.t.Error("the trees stay different")
}

func has(m *machine, path string) bool {
	_, ok := m.disk.tree.Lookup(path)
	return ok
}

// wire is the network as one node sees it.
type wire struct {
	group *group
	from  uint64
}

func (w wire) Send(to uint64, body []byte) {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(body, m); err != nil {
		w.group.t.Error(err)
	}
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	if w.group.drop != nil && w.group.drop(m) {
		return
	}
	d := delay
	if w.group.slow != nil {
		d = max(d, w.group.slow(m))
	}
	time.AfterFunc(d, func() { w.group.deliver(w.from, to, body) })
}

func (g *group) deliver(from, to uint64, body []byte) {
	g.mu.Lock()
	m, ok := g.nodes[to]
	lost := !ok || g.cut[from] || g.cut[to]
	g.mu.Unlock()
	if lost {
		return
	}
	if err := m.Step(context.Background(), body); err != nil && !errors.Is(err, ErrStopped) {
		g.t.Error(err)
	}
}

// others returns the nodes but one.
func (g *group) others(m *machine) (list []*machine) {
	for _, id := range []uint64{1, 2, 3, 4, 5} {
		if n, ok := g.nodes[id]; ok && n != m {
			list = append(list, n)
		}
	}
	return list
}

// result is what a proposal in the background came to.
type result struct {
	tree.Result
	err  error
	took time.Duration
}

// propose proposes in the background.
func (g *group) propose(m *machine, c *command.Command) <-chan result {
	done := make(chan result, 1)
	begun := time.Now()
	g.running.Go(func() {
		r, err := m.Propose(g.within(20*time.Second), c)
		done <- result{r, err, time.Since(begun)}
	})
	return done
}
