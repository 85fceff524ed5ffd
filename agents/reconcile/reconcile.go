// Package reconcile is the kit every agent runs on: watch the files, find the
// keys they concern, observe, plan, apply, and publish what came of it.
//
// It owns the loop, the one worker of each key, the back-off of a key that
// fails, and the documents under .status. An event carries a key and nothing
// else: whatever it was about is read again. It never decides what a machine
// should look like (an Agent does), and it never writes outside .status.
package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcpve/cfs/layout"
)

// An Agent brings one kind of object, such as the VMs of a node, to its desired
// state. D is what the files ask for, O what the machine shows, A one step from
// here to there. Different keys are worked on at the same time, one key never is.
type Agent[D, O any, A fmt.Stringer] interface {
	// Desired reads what the files ask of key. An object that no file names is a
	// valid desire, not an error.
	Desired(ctx context.Context, key string) (D, error)

	// Observe looks at the machine.
	Observe(ctx context.Context, key string) (O, error)

	// Plan is pure. Its actions come in the order in which they must be applied;
	// it is empty when nothing has to change.
	Plan(desired D, observed O) []A

	// Apply carries out one action and is harmless when repeated. The actions
	// that follow a failed one are tried too, unless its error is made by Abandon.
	Apply(ctx context.Context, key string, action A) error

	// Report says what came of the run: desired and observed as last seen, which
	// may be zero where err says that they could not be had.
	Report(key string, desired D, observed O, err error) Report
}

// A Report is what an agent says of one file after a run.
type Report struct {
	Path    string        // the file it speaks of, relative to the tree; "" says nothing
	Content []byte        // the file as the run saw it; nil withdraws what was said before
	Pending []Pending     // what waits for something else than this agent
	Lines   []Line        // the agent's own facts, in order
	Again   time.Duration // look at the key again after this long; 0: not before something happens
}

// Pending is a key of the file that is not in effect yet, and why.
type Pending struct{ Key, Reason string }

// A Line is one "key: value" of a status document.
type Line struct{ Key, Value string }

// Abandon marks the error of an Apply that makes the rest of the plan
// pointless. It reads as before.
func Abandon(err error) error { return &abandoned{err} }

type abandoned struct{ error }

func (e *abandoned) Unwrap() error { return e.error }

// A Watch names a directory whose entries concern keys.
type Watch struct {
	Dir string // relative to the tree; it may come and go

	// Key returns the key that the entry called name concerns. An empty key
	// concerns all of them.
	Key func(name string) (key string, ok bool)
}

// Options say where and how a loop runs. Name, Tree, Node and Log are required.
type Options struct {
	Name    string  // of the agent, for the log
	Tree    string  // where the cluster file system is mounted, or any directory laid out like it
	Node    string  // the local node
	Watches []Watch // where desires live

	// Keys returns keys that no watched directory shows, such as a guest that
	// still runs after its file has gone. It may be nil.
	Keys func(ctx context.Context) ([]string, error)

	// Events carries keys at which the agent itself saw something happen. An
	// event does not cut the back-off of a failing key short. It may be nil.
	Events <-chan string

	Resync   time.Duration // between two looks at every key; default 1 min
	Settle   time.Duration // a burst of events on a key ends with this much quiet; default 10 ms
	Parallel int           // keys worked on at the same time; default 8
	Log      *slog.Logger
}

// A Loop runs one agent.
type Loop struct {
	Options
	preview func(ctx context.Context, key string) ([]string, error)
	queue   *queue
}

// New prepares the loop of an agent.
func New[D, O any, A fmt.Stringer](agent Agent[D, O, A], o Options) *Loop {
	o.Resync = orDefault(o.Resync, time.Minute)
	o.Settle = orDefault(o.Settle, 10*time.Millisecond)
	o.Parallel = orDefault(o.Parallel, 8)
	r := &runner[D, O, A]{
		agent:  agent,
		tree:   tree{root: o.Tree, node: o.Node},
		status: Publisher{Tree: o.Tree, Node: o.Node},
		log:    o.Log.With("agent", o.Name),
	}
	return &Loop{Options: o, preview: r.preview, queue: newQueue(o, r.run)}
}

// Run works until ctx ends and returns when every worker has stopped. A run in
// progress sees ctx end and is waited for.
func (l *Loop) Run(ctx context.Context) error {
	w, err := newWatcher(l.Tree, l.Watches, l.Log)
	if err != nil {
		return fmt.Errorf("%s: watch %s: %w", l.Name, l.Tree, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.queue.wait()
	defer w.wait()
	defer cancel()
	go w.run(ctx)
	resync := time.NewTicker(l.Resync)
	defer resync.Stop()
	l.rescan(ctx, true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case key := <-w.keys:
			if key == "" {
				l.rescan(ctx, true)
			} else {
				l.queue.add(ctx, key, true)
			}
		case key := <-l.Events:
			l.queue.add(ctx, key, false)
		case <-resync.C:
			l.rescan(ctx, false)
		}
	}
}

// Preview calls print with the plan of every key, in order of keys, and applies nothing.
func (l *Loop) Preview(ctx context.Context, print func(key string, plan []string, err error)) error {
	keys, err := l.allKeys(ctx)
	for _, key := range keys {
		plan, err := l.preview(ctx, key)
		print(key, plan, err)
	}
	return err
}

func (l *Loop) rescan(ctx context.Context, fresh bool) {
	keys, err := l.allKeys(ctx)
	if err != nil {
		l.Log.Warn("some keys cannot be listed", "agent", l.Name, "err", err)
	}
	for _, key := range keys {
		l.queue.add(ctx, key, fresh)
	}
}

// allKeys lists every key that a file or the agent itself names. Directories
// that are not there name none.
func (l *Loop) allKeys(ctx context.Context) (keys []string, err error) {
	for _, w := range l.Watches {
		entries, e := os.ReadDir(filepath.Join(l.Tree, w.Dir))
		if e != nil && !os.IsNotExist(e) {
			err = e
		}
		for _, entry := range entries {
			if key, ok := keyOf(w, entry.Name()); ok && key != "" {
				keys = append(keys, key)
			}
		}
	}
	if l.Keys != nil {
		more, e := l.Keys(ctx)
		if e != nil {
			err = e
		}
		keys = append(keys, more...)
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys), err
}

// compareKeys puts VMIDs in numeric order.
func compareKeys(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// keyOf asks the watch about a name, unless an editor saves through it.
func keyOf(w Watch, name string) (string, bool) {
	if layout.IsTemporary(name) {
		return "", false
	}
	return w.Key(name)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
