// Package statistics is the agent that says how a node and its storages fare,
// and keeps what all nodes said in round-robin files.
//
// It owns the rounds: every ten seconds it measures, writes lines into .rrd and
// reads those of all nodes and guests, and every minute it writes them to disk.
// Guests are measured by those who run them. It never changes anything it
// measures.
package statistics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"etcpve/agents/sample"
	"etcpve/agents/statistics/roundrobin"
	"etcpve/agents/storage"
)

// Interval is how often everything is measured.
const Interval = 10 * time.Second

// flushEvery is how many rounds the round-robin files wait for: one row of
// theirs is a minute.
const flushEvery = 6

// patience is how long a storage may take to say how full it is. The others do
// not wait for it.
const patience = time.Minute

// Options say where an agent works. Tree, Node and Log are required.
type Options struct {
	Tree     string // where the cluster file system is mounted
	Node     string // the local node
	Storages storage.Catalog
	Machine  Machine
	Files    roundrobin.Files
	Log      *slog.Logger
}

// An Agent measures one node.
type Agent struct {
	Options
	publish func(lines []string) error

	rounds  int
	trouble map[string]bool // what failed in the last round, so that it is told once

	mu   sync.Mutex // guards busy
	busy map[string]bool
	wg   sync.WaitGroup // of storages that are asked
}

// New prepares an agent.
func New(o Options) *Agent {
	return &Agent{Options: o, busy: map[string]bool{}, trouble: map[string]bool{},
		publish: func(lines []string) error { return sample.Publish(o.Tree, lines) }}
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	defer a.wg.Wait()
	for {
		a.Round(ctx, time.Now())
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), Interval)
			defer cancel()
			a.tell("round-robin files", a.Files.Flush(end))
			return nil
		case <-tick.C:
		}
	}
}

// Round measures once. Nothing that fails keeps the rest from being measured.
func (a *Agent) Round(ctx context.Context, now time.Time) {
	a.tell("node", a.publish([]string{a.Machine.Measure(a.Node, now).Line()}))
	a.askStorages(ctx, now)
	content, err := os.ReadFile(filepath.Join(a.Tree, sample.File))
	a.tell("samples", err)
	a.Files.Add(sample.Rows(content), now)
	if a.rounds++; a.rounds%flushEvery == 0 {
		a.tell("round-robin files", a.Files.Flush(ctx))
	}
}

// tell logs what fails, once until it works again.
func (a *Agent) tell(what string, err error) {
	if err != nil && !a.trouble[what] && !errors.Is(err, context.Canceled) {
		a.Log.Warn("statistics are incomplete", "of", what, "err", err)
	}
	a.trouble[what] = err != nil
}

// askStorages asks every storage that is not being asked still.
func (a *Agent) askStorages(ctx context.Context, now time.Time) {
	all, err := a.Storages.Configs()
	a.tell("storages", err)
	for _, c := range all {
		plugin := a.Storages.Plugins[c.Type]
		if plugin == nil || !a.begin(c.ID) {
			continue
		}
		a.wg.Go(func() {
			defer a.end(c.ID)
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			status, err := plugin.Status(ctx, c)
			if err != nil {
				return // the storages' own agent says so
			}
			s := sample.Storage{Node: a.Node, ID: c.ID, Time: now, Total: sample.Count(status.Total), Used: sample.Count(status.Used)}
			if err := a.publish([]string{s.Line()}); err != nil {
				a.Log.Debug("sample of a storage not published", "storage", c.ID, "err", err)
			}
		})
	}
}

func (a *Agent) begin(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := !a.busy[id]
	a.busy[id] = true
	return free
}

func (a *Agent) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, id)
}
