// Package node is the agent of the firewall: it keeps a node's packet filter as
// firewall/*.fw, nodes/NODE/host.fw, sdn/firewall/*.fw and the configurations of
// the node's guests say.
//
// It owns the loop from the files to the kernel, the switch by which the
// firewall is stopped by hand, and what is said of the files in .status. When the
// agent ends, the rules stay in force; they go when the firewall is disabled or
// stopped. It never decides what a rule means.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/facts"
	"etcpve/agents/firewall/iptables"
	"etcpve/agents/firewall/nflog"
	"etcpve/agents/host"
	"etcpve/agents/reconcile"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// key is the only one: a node has one packet filter.
const key = "node"

// The kernel is looked at this often, to repair what somebody else changed.
// Between two looks it is believed to hold what was put there.
const (
	resync = 30 * time.Second
	trust  = resync - 5*time.Second
)

// DefaultRun is where the switch and last good versions of files are kept.
const DefaultRun = "/run/pve-firewall"

// DefaultLogFile is where packets are logged.
const DefaultLogFile = "/var/log/pve-firewall.log"

// Options say where an agent works. Tree, Node and Log are required.
type Options struct {
	Tree string // where the cluster file system is mounted
	Node string // the local node
	Run  string // default DefaultRun
	Log  *slog.Logger

	// LogFile is for packets that rules log; default DefaultLogFile, or a file in
	// Run if that is not the usual place.
	LogFile string

	// Driver brings rules into the kernel; the zero value uses the tools that
	// the machine has.
	Driver iptables.Driver
}

// An Agent keeps one node's packet filter.
type Agent struct {
	Options
	Switch  Switch
	publish reconcile.Publisher

	changes changes

	mu       sync.Mutex // guards what follows
	reader   facts.Reader
	compiler firewall.Compiler
	last     Desired              // what the files asked for when they were last read
	known    Observed             // what the kernel holds
	said     map[string]statement // of each file, by path
}

// New makes an agent.
func New(o Options) *Agent {
	if o.Run == "" {
		o.Run = DefaultRun
	}
	switch {
	case o.LogFile != "":
	case o.Run == DefaultRun:
		o.LogFile = DefaultLogFile
	default:
		o.LogFile = filepath.Join(o.Run, "pve-firewall.log")
	}
	if o.Driver.Runner == nil {
		o.Driver.Runner = host.System{}
	}
	a := &Agent{
		Options: o,
		Switch:  Switch{o.Run},
		publish: reconcile.Publisher{Tree: o.Tree, Node: o.Node},
		reader:  facts.Reader{Tree: o.Tree, Node: o.Node, Keep: filepath.Join(o.Run, "good")},
		said:    map[string]statement{},
	}
	a.changes.everything()
	return a
}

// Loop returns the loop that runs the agent.
func (a *Agent) Loop() *reconcile.Loop {
	own := "nodes/" + a.Node
	var watches []reconcile.Watch
	for _, w := range [][2]string{
		{"firewall", ".fw"}, {"sdn/firewall", ".fw"}, {own, "host.fw"}, {"", "corosync.conf"},
		{own + "/" + layout.QEMU.Dir(), ".conf"}, {own + "/" + layout.LXC.Dir(), ".conf"},
	} {
		watches = append(watches, reconcile.Watch{Dir: w[0], Key: a.changes.in(w[0], w[1])})
	}
	return reconcile.New(a, reconcile.Options{
		Name: "firewall", Tree: a.Tree, Node: a.Node, Log: a.Log, Resync: resync,
		Keys: func(context.Context) ([]string, error) {
			a.changes.everything() // asked for at the beginning, now and then, and when events were lost
			return []string{key}, nil
		},
		Watches: watches,
	})
}

// Run works until ctx ends. A node has one agent of its firewall.
func (a *Agent) Run(ctx context.Context) error {
	release, err := a.Switch.take("agent")
	if err != nil {
		return fmt.Errorf("firewall: another agent is at work: %w", err)
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	var logs sync.WaitGroup
	logs.Go(func() { a.logPackets(ctx) })
	err = a.Loop().Run(ctx)
	cancel()
	logs.Wait()
	return err
}

// logRetry is when the packets' log is tried again that could not be read or
// written.
const logRetry = 30 * time.Second

// logPackets writes the packets' log until ctx ends. Packets are filtered
// whether or not that works.
func (a *Agent) logPackets(ctx context.Context) {
	for ctx.Err() == nil {
		if err := (nflog.Logger{File: a.LogFile}).Run(ctx); err != nil {
			a.Log.Warn("packets are not logged", "path", a.LogFile, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(logRetry):
		}
	}
}

// Desired is what the files ask for.
type Desired struct {
	facts.Facts
	Rules    *firewall.Ruleset
	Problems []text.Error // rules without effect
	Stopped  bool
}

// Desired reads the files. Where they are as they were, so is the rule set.
func (a *Agent) Desired(context.Context, string) (Desired, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	stopped := a.Switch.Stopped()
	f, err := a.read()
	if err != nil && !stopped {
		return Desired{}, err
	}
	d := Desired{Facts: f, Stopped: stopped}
	switch {
	case d.Stopped:
		d.Rules = &firewall.Ruleset{}
	case a.last.Rules != nil && !a.last.Stopped && same(a.last.Input, f.Input):
		d.Rules, d.Problems = a.last.Rules, a.last.Problems
	default:
		d.Rules, d.Problems = a.compiler.Compile(f.Input)
	}
	a.last = d
	return d, nil
}

// read looks at the files that changed, or at all of them.
func (a *Agent) read() (facts.Facts, error) {
	paths, all := a.changes.take()
	if all {
		return a.complete(a.reader.Read())
	}
	for path := range paths {
		a.reader.Changed(path)
	}
	return a.complete(a.reader.Again())
}

// complete makes sure that what could not be read is tried again.
func (a *Agent) complete(f facts.Facts, err error) (facts.Facts, error) {
	if err != nil {
		a.changes.everything()
	}
	return f, err
}

// Observed is what the kernel holds.
type Observed struct {
	iptables.State
	since time.Time         // when the kernel was last looked at, or changed
	rules *firewall.Ruleset // that are in force in full, if it is known which
}

// Observe looks at the kernel, unless what it holds is known.
func (a *Agent) Observe(ctx context.Context, _ string) (Observed, error) {
	a.mu.Lock()
	o := a.known
	a.mu.Unlock()
	if o.rules != nil && time.Since(o.since) < trust && a.Switch.Undisturbed() {
		return o, nil
	}
	unlock, err := a.Switch.Lock(ctx)
	if err != nil {
		return Observed{}, err
	}
	defer unlock()
	state, err := a.Driver.Observe(ctx)
	return Observed{State: state, since: time.Now()}, err
}

// A Change is a plan that is carried out as a whole.
type Change struct {
	Actions []iptables.Action
	rules   *firewall.Ruleset
	before  iptables.State
}

// String lists the actions.
func (c Change) String() string {
	words := make([]string, len(c.Actions))
	for i, action := range c.Actions {
		words[i] = action.String()
	}
	return strings.Join(words, "; ")
}

// Plan returns at most one change.
func (a *Agent) Plan(d Desired, have Observed) []Change {
	if have.rules == d.Rules {
		return nil
	}
	actions := iptables.Plan(d.Rules, have.State)
	if len(actions) == 0 {
		return nil
	}
	return []Change{{actions, d.Rules, have.State}}
}

// Apply carries out a change, unless the firewall was stopped or started
// meanwhile: then the next run has another plan.
func (a *Agent) Apply(ctx context.Context, _ string, c Change) error {
	unlock, err := a.Switch.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	a.mu.Lock()
	stopped := a.last.Stopped
	a.mu.Unlock()
	if stopped != a.Switch.Stopped() {
		return nil
	}
	a.remember(Observed{})
	if err := a.Driver.Carry(ctx, c.Actions); err != nil {
		return err
	}
	a.remember(Observed{iptables.After(c.rules, c.before), time.Now(), c.rules})
	return nil
}

func (a *Agent) remember(o Observed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = o
}

// Pending reads the files, looks at the kernel and returns what is to do.
func (a *Agent) Pending(ctx context.Context) (Desired, []iptables.Action, error) {
	d, err := a.Desired(ctx, key)
	if err != nil {
		return d, nil, err
	}
	have, err := a.Driver.Observe(ctx)
	if err != nil {
		return d, nil, err
	}
	return d, iptables.Plan(d.Rules, have), nil
}

// Converge brings the kernel to what the files ask for, once.
func (a *Agent) Converge(ctx context.Context) error {
	d, err := a.Desired(ctx, key)
	if err != nil {
		return err
	}
	have, err := a.Driver.Observe(ctx)
	if err != nil {
		return err
	}
	for _, change := range a.Plan(d, Observed{State: have}) {
		if err := a.Apply(ctx, key, change); err != nil {
			return err
		}
	}
	return nil
}
