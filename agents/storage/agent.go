package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"etcpve/agents/reconcile"
)

// Options say where an agent works.
type Options struct {
	Catalog
	Log *slog.Logger
}

// An Agent keeps the storages of a node active and says how full they are.
type Agent struct {
	Options

	calls  Calls
	mu     sync.Mutex // guards active
	active map[string]*Config
}

// NewAgent prepares an agent.
func NewAgent(o Options) *Agent { return &Agent{Options: o, active: map[string]*Config{}} }

// Times of the agent: a storage that does not answer within patience counts as
// offline, and sizes are looked at every refresh.
const (
	patience = 20 * time.Second
	refresh  = time.Minute
)

// Wanted is what storage.cfg asks of a node.
type Wanted struct {
	Content  []byte // of the file
	Configs  map[string]*Config
	Warnings []string
}

// Seen is what the agent knows of one storage.
type Seen struct {
	Config *Config // as it was activated; nil if it was not
	Status Status
	Err    error // why there is no status
}

// An Action is one step for one storage.
type Action struct {
	Activate bool // else deactivate
	Config   *Config
}

func (a Action) String() string {
	if a.Activate {
		return "activate storage " + a.Config.ID
	}
	return "deactivate storage " + a.Config.ID
}

// Loop returns the loop of the agent.
func (a *Agent) Loop() *reconcile.Loop {
	return reconcile.New(a, reconcile.Options{
		Name: "storage", Tree: a.Tree, Node: a.Node, Resync: refresh, Log: a.Log,
		Keys: func(context.Context) ([]string, error) { return []string{File}, nil },
		Watches: []reconcile.Watch{{Dir: ".", Key: func(name string) (string, bool) {
			return name, name == File
		}}},
	})
}

// Run works until ctx ends. Storages stay active: guests use them.
func (a *Agent) Run(ctx context.Context) error { return a.Loop().Run(ctx) }

// Desired reads storage.cfg.
func (a *Agent) Desired(context.Context, string) (Wanted, error) {
	text, err := os.ReadFile(filepath.Join(a.Tree, File))
	if errors.Is(err, os.ErrNotExist) {
		text, err = []byte{}, nil
	}
	all, warnings := ParseConfigs(string(text))
	w := Wanted{Content: text, Configs: map[string]*Config{}, Warnings: warnings}
	for _, c := range all {
		if c.Enabled() && c.OnNode(a.Node) {
			w.Configs[c.ID] = c
		}
	}
	return w, err
}

// Observe looks at the storages that were activated, all at the same time: one
// that does not answer keeps no other waiting.
func (a *Agent) Observe(ctx context.Context, _ string) (map[string]Seen, error) {
	a.mu.Lock()
	active := maps.Clone(a.active)
	a.mu.Unlock()
	seen := map[string]Seen{}
	var mu sync.Mutex // guards seen
	var all sync.WaitGroup
	for id, c := range active {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			status, err := Bounded(ctx, &a.calls, id, func(ctx context.Context) (Status, error) {
				return a.Plugins[c.Type].Status(ctx, c)
			})
			mu.Lock()
			defer mu.Unlock()
			seen[id] = Seen{Config: c, Status: status, Err: err}
		})
	}
	all.Wait()
	return seen, nil
}

// Plan activates what is new, changed or does not answer, and deactivates what
// was removed.
func (a *Agent) Plan(w Wanted, seen map[string]Seen) (plan []Action) {
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if was := seen[id].Config; w.Configs[id] == nil || !equal(w.Configs[id], was) {
			plan = append(plan, Action{Config: was})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Configs)) {
		s, known := seen[id]
		if !known || s.Err != nil || !equal(w.Configs[id], s.Config) {
			plan = append(plan, Action{Activate: true, Config: w.Configs[id]})
		}
	}
	return plan
}

func equal(a, b *Config) bool { return a.Type == b.Type && maps.Equal(a.Values, b.Values) }

// Apply carries out one step.
func (a *Agent) Apply(ctx context.Context, _ string, action Action) error {
	c := action.Config
	p := a.Plugins[c.Type]
	if p == nil {
		return fmt.Errorf("storage '%s': type '%s' is not known here", c.ID, c.Type)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	do := p.Deactivate
	if action.Activate {
		do = p.Activate
	}
	_, err := Bounded(ctx, &a.calls, c.ID, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, do(ctx, c)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil && action.Activate:
		delete(a.active, c.ID)
		return fmt.Errorf("storage '%s': %w", c.ID, err)
	case action.Activate:
		a.active[c.ID] = c
	default:
		delete(a.active, c.ID)
	}
	if err != nil {
		// A storage somebody still works on stays mounted; nothing depends on it.
		a.Log.Warn("storage not deactivated", "storage", c.ID, "err", err)
	}
	return nil
}

// Report says which storages are active and how full they are, in bytes.
func (a *Agent) Report(_ string, w Wanted, seen map[string]Seen, _ error) reconcile.Report {
	r := reconcile.Report{Path: File, Content: w.Content}
	for _, id := range slices.Sorted(maps.Keys(w.Configs)) {
		value := "inactive"
		if s, ok := seen[id]; ok && s.Err == nil {
			value = fmt.Sprintf("active, total %d, used %d, available %d", s.Status.Total, s.Status.Used, s.Status.Available)
		}
		r.Lines = append(r.Lines, reconcile.Line{Key: "storage " + id, Value: value})
	}
	for _, warning := range w.Warnings {
		r.Lines = append(r.Lines, reconcile.Line{Key: "warning", Value: warning})
	}
	return r
}
