package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/database"
	"etcpve/cfs/join"
	"etcpve/cfs/membership"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
	"etcpve/fixtures/loopback"
)

// A machine is one node of a test, on a loopback address of its own: everything
// a daemon has but the mount.
type machine struct {
	t    testing.TB
	name string
	ip   netip.Addr
	dir  string

	tree    *tree.Tree
	store   *status.Store
	order   *consensus.Node
	cluster *Cluster
	deaf    atomic.Uint64 // no message of consensus goes to the node with this id
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	db      *database.Database
}

// Send implements consensus.Transport.
func (m *machine) Send(to uint64, message []byte) {
	if to != m.deaf.Load() {
		m.cluster.Send(to, message)
	}
}

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = 2 * time.Minute

// port is where all nodes listen, each on its own address. The next one is for gossip.
const port = 5407

// newMachine makes node n without starting it.
func newMachine(t testing.TB, n byte) *machine {
	t.Helper()
	m := &machine{t: t, name: fmt.Sprintf("n%d", n), ip: loopback.Address(n), dir: t.TempDir()}
	t.Cleanup(m.stop)
	return m
}

func (m *machine) home() home.Home { return home.Home(filepath.Join(m.dir, "cluster")) }

// start runs the node on what is on its disk.
func (m *machine) start() {
	m.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("VERBOSE") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("on", m.name)
	}
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	id, joined := uint32(1), false
	if d, _, err := m.home().Definition(); err == nil {
		n, ok := d.Node(m.name)
		if !ok {
			m.t.Fatalf("%s: not in its own definition", m.name)
		}
		id, joined = n.ID, true
	} else if !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	m.tree = tree.New()
	var err error
	m.db, err = database.Open(filepath.Join(m.dir, "config.db"), m.tree, database.Options{Log: log})
	must(err)
	m.store = status.New(m.name, time.Now)
	m.cluster, err = New(Config{Node: m.name, ID: id, Home: m.home(), Port: port, Timing: membership.LAN(), Tree: m.tree,
		Fresh: joined && m.db.Recovered().Base == 0,
		Store: m.store, Log: &status.Log{}, Now: time.Now, Logger: log})
	must(err)
	m.order, err = consensus.New(consensus.Options{ID: uint64(id), Storage: m.db, Applier: m.db, Transport: m, Log: log,
		Join: joined, Changes: m.cluster.Notice, Replaced: m.cluster.Reread})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	db, order, cluster := m.db, m.order, m.cluster
	cluster.Attach(order)
	for _, run := range []func(context.Context) error{db.Run, order.Run, cluster.Run} {
		m.ended.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				m.t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	if !joined {
		m.eventually("quorate", order.Quorate)
	}
}

// stop ends the node; its disk stays.
func (m *machine) stop() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.ended.Wait()
	m.cancel = nil
	if err := m.db.Close(); err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
}

func (m *machine) eventually(what string, holds func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: never %s; %+v", m.name, what, m.order.Status())
		}
	}
}

// write saves a file through this node.
func (m *machine) write(path, content string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := m.order.Propose(ctx, &command.Command{Op: command.Write, Path: path, Data: []byte(content), Node: m.name, Time: 1})
	return errors.Join(err, r.Err)
}

func (m *machine) save(path, content string) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := m.write(path, content)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: write %s: %v", m.name, path, err)
		}
	}
}

func (m *machine) has(path, content string) func() bool {
	return func() bool {
		e, ok := m.tree.Lookup(path)
		return ok && string(e.Data) == content
	}
}

// found makes a cluster of this node.
func (m *machine) found() {
	m.t.Helper()
	a, err := join.NewAuthority(time.Now())
	if err != nil {
		m.t.Fatal(err)
	}
	cert, key, err := a.PEM()
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := m.order.Propose(m.t.Context(), &command.Command{Op: command.Mkdir, Path: "priv"})
	if err := errors.Join(err, r.Err); err != nil {
		m.t.Fatal(err)
	}
	m.save("pve-root-ca.pem", string(cert))
	m.save("priv/pve-root-ca.key", string(key))
	if err := m.cluster.Create(m.t.Context(), Founding{Cluster: "lab", Addresses: []netip.Addr{m.ip}, Votes: 1}); err != nil {
		m.t.Fatal(err)
	}
	m.eventually("listening", func() bool { return m.cluster.speaker() != nil })
}

// enter lets this node join the cluster of another, as its daemon would.
func (m *machine) enter(member *machine) {
	m.t.Helper()
	i, err := member.cluster.Invite(time.Now().Add(time.Minute))
	if err != nil {
		m.t.Fatal(err)
	}
	printed, err := join.ParseInformation(i.String())
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.cluster.Join(m.t.Context(), Entry{Information: printed, Addresses: []netip.Addr{m.ip}}); err != nil {
		m.t.Fatal(err)
	}
	m.restartEmpty()
}

func (m *machine) restartEmpty() {
	m.t.Helper()
	m.stop()
	for _, f := range []string{"config.db", "config.db-wal", "config.db-shm"} {
		if err := os.Remove(filepath.Join(m.dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.t.Fatal(err)
		}
	}
	m.start()
}

func (m *machine) votes(n int) func() bool {
	return func() bool { return len(m.order.Status().Voters) == n }
}

// three makes a cluster of three nodes.
func three(t *testing.T) (a, b, c *machine) {
	t.Helper()
	a, b, c = newMachine(t, 1), newMachine(t, 2), newMachine(t, 3)
	for _, m := range []*machine{a, b, c} {
		m.start()
	}
	a.save("before", "the cluster")
	a.found()
	b.enter(a)
	b.eventually("having the tree", b.has("before", "the cluster"))
	a.eventually("two votes", a.votes(2))
	c.enter(a)
	a.eventually("three votes", a.votes(3))
	for _, m := range []*machine{b, c} {
		m.eventually("quorate", m.order.Quorate)
	}
	return a, b, c
}

func TestThreeNodesShareOneTree(t *testing.T) {
	a, b, c := three(t)
	b.save("from-b", "hello")
	for _, m := range []*machine{a, b, c} {
		m.eventually("hearing of b's save", m.has("from-b", "hello"))
	}
	r := c.cluster.Report()
	if r.Cluster != "lab" || len(r.Nodes) != 3 || r.Expected != 3 || !r.Quorate {
		t.Errorf("report %+v", r)
	}
	v, err := a.store.Set(status.KV, "load", []byte("0.5"))
	if err != nil {
		t.Fatal(err)
	}
	a.cluster.Tell(v)
	c.eventually("hearing of a's load", func() bool { _, ok := c.store.Latest(status.KV, "load"); return ok })
}

func TestAMajorityGoesOnAndTheReturnedCatchUp(t *testing.T) {
	a, b, c := three(t)
	a.stop()
	c.save("without-a", "1")
	b.eventually("going on", b.has("without-a", "1"))
	c.stop()
	b.eventually("without quorum", func() bool { return !b.order.Quorate() })
	if err := b.write("alone", "1"); !errors.Is(err, consensus.ErrNoQuorum) {
		t.Errorf("a minority wrote: %v", err)
	}
	a.start()
	a.eventually("catching up", a.has("without-a", "1"))
	b.save("again", "2")
	a.eventually("following", a.has("again", "2"))
	if _, ok := a.tree.Lookup("alone"); ok {
		t.Error("a refused write appeared later")
	}
	c.start()
	c.eventually("back", c.has("again", "2"))
}

func TestANodeWhoseDatabaseIsLostCatchesUp(t *testing.T) {
	a, b, c := three(t)
	big := strings.Repeat("x", 1<<20)
	for i := range 6 { // a tree of more than one frame
		a.save(fmt.Sprintf("big%d", i), fmt.Sprint(i, big[8:]))
	}
	b.restartEmpty()
	b.eventually("having it all", b.has("big5", fmt.Sprint(5, big[8:])))
	c.save("after", "x")
	b.eventually("following", b.has("after", "x"))
}

func TestARemovedNodeIsCutOffAndMayComeBack(t *testing.T) {
	a, b, c := three(t)
	if err := a.cluster.Remove(t.Context(), "n1"); err == nil {
		t.Error("a node removed itself")
	}
	if err := a.cluster.Remove(t.Context(), "n9"); err == nil {
		t.Error("a stranger was removed")
	}
	if err := a.cluster.Remove(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	a.eventually("two votes", func() bool {
		s := a.order.Status()
		return len(s.Voters) == 2 && len(s.Learners) == 0
	})
	b.save("secret", "not for n3")
	if err := c.write("from-c", "x"); err == nil {
		t.Error("a removed node wrote")
	}
	if c.has("secret", "not for n3")() {
		t.Error("a removed node goes on hearing")
	}
	c.stop()
	if err := c.home().Leave(); err != nil {
		t.Fatal(err)
	}
	c.restartEmptyAlone()
	c.enter(b)
	c.eventually("back", c.has("secret", "not for n3"))
	a.eventually("three votes", a.votes(3))
}

// restartEmptyAlone starts a node that is in no cluster with an empty database.
func (m *machine) restartEmptyAlone() { m.restartEmpty() }

// TestEntriesReachANodeThatTheLeaderDoesNotReach cuts the stream of the leader to
// the one node that only listens: gossip tells it what it misses, and the other
// members have it.
func TestEntriesReachANodeThatTheLeaderDoesNotReach(t *testing.T) {
	a, b, c := three(t)
	d := newMachine(t, 4)
	d.start()
	d.enter(a)
	d.eventually("following", func() bool { return d.has("before", "the cluster")() && d.order.Quorate() })
	leader := a
	for _, m := range []*machine{b, c} {
		if s := m.order.Status(); s.Leader == s.ID {
			leader = m
		}
	}
	leader.deaf.Store(4)
	d.eventually("without a sign of the leader", func() bool { return !d.order.Quorate() })
	for i := range 50 {
		b.save(fmt.Sprint("relayed", i), strings.Repeat("x", 40_000)) // more than one answer holds
	}
	d.eventually("having what it could not hear", d.has("relayed49", strings.Repeat("x", 40_000)))
	if d.order.Quorate() {
		t.Error("what others tell counts as a sign of the leader")
	}
	if err := d.write("from-d", "x"); !errors.Is(err, consensus.ErrNoQuorum) {
		t.Errorf("wrote without a leader: %v", err)
	}
	leader.deaf.Store(0)
	d.eventually("hearing again", d.order.Quorate)
	d.save("from-d", "x")
	a.eventually("hearing of d's save", a.has("from-d", "x"))
}

func TestRefusalsAtTheDoor(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	a.start()
	b.start()
	if _, err := a.cluster.Invite(time.Now()); !errors.Is(err, ErrAlone) {
		t.Errorf("a lone node invites: %v", err)
	}
	a.found()
	if err := a.cluster.Create(t.Context(), Founding{Cluster: "again", Addresses: []netip.Addr{a.ip}}); err == nil {
		t.Error("a cluster was formed twice")
	}
	expired, err := a.cluster.Invite(time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cluster.Join(t.Context(), Entry{Information: expired, Addresses: []netip.Addr{b.ip}}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired token: %v", err)
	}
	good, err := a.cluster.Invite(time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cluster.Join(t.Context(), Entry{Information: good, Addresses: []netip.Addr{a.ip}}); err == nil || !strings.Contains(err.Error(), "belongs to node n1") {
		t.Errorf("taken address: %v", err)
	}
	for _, dir := range []string{"nodes", "nodes/n2", "nodes/n2/lxc"} {
		if r, err := b.order.Propose(t.Context(), &command.Command{Op: command.Mkdir, Path: dir}); errors.Join(err, r.Err) != nil {
			t.Fatal(err, r.Err)
		}
	}
	b.save("nodes/n2/lxc/100.conf", "hostname: h\n")
	if err := b.cluster.Join(t.Context(), Entry{Information: good}); err == nil || !strings.Contains(err.Error(), "has guests") {
		t.Errorf("a node with guests: %v", err)
	}
	if d := a.cluster.Definition(); len(d.Nodes) != 1 {
		t.Errorf("definition %+v", d)
	}
}

func TestPiecesComeTogether(t *testing.T) {
	p := pieces{parts: map[string][]byte{}}
	message := make([]byte, 2*pieceLen+5)
	message[2*pieceLen+4] = 7
	var got []byte
	feed := func(total, at int, b []byte) error {
		body := append([]byte{byte(total >> 24), byte(total >> 16), byte(total >> 8), byte(total), byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}, b...)
		whole, err := p.add("n1", body)
		if whole != nil {
			got = whole
		}
		return err
	}
	for at := 0; at < len(message); at += pieceLen {
		if err := feed(len(message), at, message[at:min(at+pieceLen, len(message))]); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, message) {
		t.Errorf("%d bytes", len(got))
	}
	for name, err := range map[string]error{
		"too large":    feed(maxTree+1, 0, nil),
		"out of order": feed(100, 50, make([]byte, 10)),
		"over the end": feed(5, 0, make([]byte, 10)),
	} {
		if !errors.Is(err, errPiece) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOnlyANodeThatEntersBeginsAnew guards the databases of nodes that were in their
// group before.
func TestOnlyANodeThatEntersBeginsAnew(t *testing.T) {
	first, second := newMachine(t, 1), newMachine(t, 2)
	first.start()
	second.start()
	first.save("before", "the cluster")
	first.found()
	second.enter(first)
	second.eventually("having the tree", second.has("before", "the cluster"))
	if first.home().IsAnew() {
		t.Error("the node that formed the cluster would lose its tree at the next start")
	}
	joined := second.home()
	if !joined.IsAnew() {
		t.Error("the node that joined would keep the tree that it had before")
	}
	if err := joined.Begun(); err != nil || joined.IsAnew() {
		t.Errorf("a node that has begun anew does it again: %v", err)
	}
	if err := joined.Begun(); err != nil {
		t.Error(err)
	}
	_, text, err := joined.Definition()
	if err != nil {
		t.Fatal(err)
	}
	if err := joined.Follow(make([]byte, 32), text); err != nil || !joined.IsAnew() {
		t.Errorf("a node that follows another keeps its tree: %v", err)
	}
	if err := joined.Note(append(text, '\n')); err != nil || joined.IsAnew() {
		t.Errorf("a newer definition makes a node begin anew: %v", err)
	}
}

// TestANodeSpeaksForTheGroupOfItsLog has the home of a running node become that of
// another group, as it does just before the node begins anew there.
func TestANodeSpeaksForTheGroupOfItsLog(t *testing.T) {
	m := newMachine(t, 1)
	m.start()
	m.found()
	m.eventually("speaking", func() bool { return m.cluster.group.Load() != nil })
	before, err := m.cluster.Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := m.home().Definition()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.home().Follow(make([]byte, 32), text); err != nil {
		t.Fatal(err)
	}
	if after, err := m.cluster.Identity(); err != nil || after.Group != before.Group {
		t.Errorf("group %s became %s while the log was the same, %v", before.Group, after.Group, err)
	}
}
