// Package node runs the CRM and the LRM of a real node.
//
// It owns what stands behind their seams there: cluster locks as directories,
// quorum from .members, the files below /etc/pve/ha, guests by their power files
// and the status their agents publish, and the node's watchdog or what stands in
// for one. It never decides what runs where: that is up to crm and lrm, which
// the simulator runs just the same.
//
// A guest is moved by renaming its configuration. Before that its power file
// says stopped, so that it runs on its new node only when the LRM there, which
// holds the node's lock, says so.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/fence"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/lrm"
	"etcpve/agents/host"
	"etcpve/agents/reconcile"
)

// Times of a node, by its clock.
const (
	crmRound   = 10 * time.Second
	lrmRound   = 5 * time.Second
	leaveRound = time.Second      // while a manager is asked to end
	leaveLimit = 90 * time.Second // for the CRM to end
)

// workers is how many guests an LRM starts, stops or moves at the same time.
const workers = 4

// substituteWait is the least time the substitute of a watchdog waits, so that a
// busy machine does not fence itself in tests.
const substituteWait = 3 * time.Second

// Options say where and for whom CRM and LRM work. Tree, Node and Log are required.
type Options struct {
	Tree   string // where the cluster file system is mounted
	Node   string // the local node
	RunDir string // for the watchdog's socket; default /run/pve-ha
	Guests string // run directory of VMs; default /run/qemu-server
	Device string // the watchdog; default /dev/watchdog
	Speed  int    // for tests: how much faster than time the managers' clocks go
	Log    *slog.Logger
}

// An Agent runs the CRM and the LRM of one node.
type Agent struct {
	Options
	clock
	lrm, crm  turn
	publisher reconcile.Publisher
}

// turn is how one manager is asked to end, and when it has.
type turn struct {
	asked, ended chan struct{}
	once         *sync.Once
}

func newTurn() turn { return turn{make(chan struct{}), make(chan struct{}), new(sync.Once)} }

// end asks the manager to end and waits for it.
func (t turn) end(ctx context.Context) error {
	t.once.Do(func() { close(t.asked) })
	select {
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// New prepares an agent.
func New(o Options) *Agent {
	for field, value := range map[*string]string{&o.RunDir: "/run/pve-ha", &o.Guests: "/run/qemu-server", &o.Device: "/dev/watchdog"} {
		if *field == "" {
			*field = value
		}
	}
	return &Agent{Options: o, clock: newClock(o.Speed), lrm: newTurn(), crm: newTurn(),
		publisher: reconcile.Publisher{Tree: o.Tree, Node: o.Node}}
}

// Run works until both managers have left, or ctx ends. An end without Leave
// while services run leaves the watchdog to do its work.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var (
		at     = cluster{a.clock, files.Tree{Root: a.Tree}, a.Node}
		store  = &lrmStore{cluster: at}
		guests = guests{ctx: ctx, files: at.files, node: a.Node, runDir: a.Guests, log: a.logger("lrm")}
		all    sync.WaitGroup
	)
	defer all.Wait()
	defer cancel()
	dog, bitten, err := a.watchdog(func() { guests.killAll(store.services()) })
	if err != nil {
		return err
	}
	socket := filepath.Join(a.RunDir, "watchdog.sock")
	l, err := listen(socket)
	if err != nil {
		return fmt.Errorf("ha: watchdog: %w", err)
	}
	failed := make(chan error, 1)
	all.Go(func() { failed <- dog.Run(ctx, l) })
	a.say(facts(a.Node, a.fencing()))
	all.Go(func() { a.runLRM(ctx, at, store, guests, socket) })
	all.Go(func() { a.runCRM(ctx, at, socket) })
	select {
	case <-bitten:
		return errors.New("ha: this node has fenced itself: its HA guests were killed")
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("ha: watchdog: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// listen makes the socket of the watchdog anew: one that a killed agent left is
// in the way.
func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", socket)
}

// watchdog returns the multiplexer of the node's watchdog. Without a device, bite
// is called where a device would reset the node, and then bitten is closed.
func (a *Agent) watchdog(bite func()) (dog *fence.Mux, bitten <-chan struct{}, err error) {
	_, err = os.Stat(a.Device)
	switch {
	case err == nil:
		dog = fence.New(fence.NewDevice(a.Device), a.Log)
	case os.IsNotExist(err):
		a.Log.Warn("no watchdog device: HA runs unfenced; a node that loses the cluster kills its HA guests "+
			"by itself, but does not if this agent is killed or hangs", "path", a.Device)
		s := fence.NewSubstitute(max(a.of(10*time.Second), substituteWait), bite)
		dog, bitten = fence.New(s, a.Log), s.Bitten()
	default:
		return nil, nil, fmt.Errorf("ha: watchdog: %w", err)
	}
	dog.Patience = a.of(fence.Patience)
	return dog, bitten, nil
}

// fencing says in a word what fences this node.
func (a *Agent) fencing() string {
	if _, err := os.Stat(a.Device); err != nil {
		return "none (unfenced)"
	}
	return a.Device
}

func (a *Agent) runLRM(ctx context.Context, at cluster, store *lrmStore, g guests, socket string) {
	log := a.logger("lrm")
	announced := false
	locks := newLocks(a.Tree, a.clock)
	m := lrm.New(lrm.Config{
		Node: a.Node, Cluster: at, Store: store, Guests: g, Log: log, Announced: &announced, Workers: workers,
		Guard: ha.NewGuard(ha.AgentLock(a.Node), locks, fence.NewClient(socket, a.Log), log),
	})
	a.rounds(ctx, a.lrm, lrmRound, m.Step, func() { m.Stop(a.reason(ctx, host.System{})) })
	m.Wait()
}

func (a *Agent) runCRM(ctx context.Context, at cluster, socket string) {
	log := a.logger("crm")
	locks := newLocks(a.Tree, a.clock)
	store := crmStore{cluster: at, ctx: ctx, locks: locks, log: log, tell: a.explain, noted: new(notes)}
	guard := ha.NewGuard(ha.ManagerLock, locks, fence.NewClient(socket, a.Log), log)
	m := crm.New(a.Node, at, store, store, guard, log)
	a.rounds(ctx, a.crm, crmRound, m.Step, m.Stop)
}

// rounds lets a manager step until it has ended or ctx ends. Once it is asked to
// end it steps faster, as others wait for that.
func (a *Agent) rounds(ctx context.Context, t turn, every time.Duration, step func() bool, stop func()) {
	defer close(t.ended)
	tick := time.NewTicker(a.of(every))
	defer tick.Stop()
	asked := t.asked
	for !step() {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			asked = nil
			tick.Reset(min(leaveRound, a.of(every)))
			stop()
		case <-tick.C:
		}
	}
}

// Leave ends the managers in order: the LRM first, which needs a CRM to see to
// its services. It waits for as long as guests take to shut down or to move: an
// LRM that loses its lock meanwhile is ended by the watchdog. It does nothing
// where Run has ended.
func (a *Agent) Leave(ctx context.Context) error {
	err := a.lrm.end(ctx)
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, leaveLimit)
		defer cancel()
		err = a.crm.end(limited)
	}
	if err != nil {
		return fmt.Errorf("ha: services were not left in order: %w", err)
	}
	return nil
}

// logger passes a manager's lines on. Their texts are those of PVE.
func (a *Agent) logger(daemon string) ha.Log {
	log := a.Log.With("agent", "pve-ha-"+daemon)
	levels := map[ha.Level]slog.Level{ha.Warn: slog.LevelWarn, ha.Err: slog.LevelError, ha.Email: slog.LevelWarn}
	return func(level ha.Level, text string) { log.Log(context.Background(), levels[level], text) }
}
