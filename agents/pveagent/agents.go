package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	firewall "etcpve/agents/firewall/node"
	ha "etcpve/agents/ha/node"
	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/qemu/wishes"
	"etcpve/agents/reconcile"
	"etcpve/agents/statistics"
	"etcpve/agents/statistics/roundrobin"
	"etcpve/agents/storage"
	"etcpve/cfs/layout"
	"etcpve/plugins"
)

// A place is where agents and tools work.
type place struct {
	Tree string // the cluster file system
	Node string // the local node
	Run  string // for what lasts until the node is booted; "" for the usual places

	dryRun bool
	guests string
	level  slog.Level
	noKVM  bool
	dog    string // the watchdog of HA; "" for the usual one
	speed  int    // of HA's clocks
}

// placeOf takes the place from the environment.
func placeOf(getenv func(string) string) place {
	p := place{Tree: getenv("PVE_DIR"), Node: getenv("PVE_NODE"), Run: getenv("PVE_RUN"), guests: "keep"}
	if p.Tree == "" {
		p.Tree = "/etc/pve"
	}
	p.speed, _ = strconv.Atoi(getenv(layout.TestSpeed)) // 0 without it, as always outside of tests
	if p.Node == "" {
		name, _ := os.Hostname() // without one, the agents say that the node is missing
		p.Node, _, _ = strings.Cut(name, ".")
	}
	return p
}

// guestRun is the run directory of VMs.
func (p place) guestRun() string {
	if p.Run == "" {
		return "/run/qemu-server"
	}
	return filepath.Join(p.Run, "qemu-server")
}

// firewallRun is the run directory of the firewall.
func (p place) firewallRun() string {
	if p.Run == "" {
		return firewall.DefaultRun
	}
	return filepath.Join(p.Run, "pve-firewall")
}

// haRun is the run directory of high availability.
func (p place) haRun() string {
	if p.Run == "" {
		return "" // its own default
	}
	return filepath.Join(p.Run, "pve-ha")
}

// guestLocks is the directory of the node's own guest locks.
func (p place) guestLocks() string {
	if p.Run == "" {
		return "/var/lock/qemu-server"
	}
	return filepath.Join(p.Run, "lock")
}

// roundRobin is where statistics are kept.
func (p place) roundRobin() (f roundrobin.Files) {
	if p.Run != "" {
		f.Dir = filepath.Join(p.Run, "rrd")
	}
	return f
}

// catalog is what the node knows of its storages.
func (p place) catalog() storage.Catalog {
	c := storage.Catalog{Tree: p.Tree, Node: p.Node, Run: host.System{}, Plugins: plugins.Storage(host.System{}, p.Tree)}
	if p.Run != "" {
		c.Locks = filepath.Join(p.Run, "storage")
	}
	return c
}

// An agent is what main starts and stops.
type agent interface {
	Run(ctx context.Context) error
}

// A planner is an agent that can be asked for its plan.
type planner interface{ Loop() *reconcile.Loop }

// A leaver is an agent that has to end in order, while all others still run.
type leaver interface {
	Leave(ctx context.Context) error
}

// agents are all there are, each made for a place.
var agents = map[string]func(place, *slog.Logger) (agent, error){
	"firewall": func(p place, log *slog.Logger) (agent, error) {
		return firewall.New(firewall.Options{Tree: p.Tree, Node: p.Node, Run: p.firewallRun(), Log: log}), nil
	},
	"ha": func(p place, log *slog.Logger) (agent, error) {
		return ha.New(ha.Options{Tree: p.Tree, Node: p.Node, RunDir: p.haRun(), Guests: p.guestRun(), Device: p.dog, Speed: p.speed, Log: log}), nil
	},
	"qemu": func(p place, log *slog.Logger) (agent, error) { return p.newQEMU(log) },
	"storage": func(p place, log *slog.Logger) (agent, error) {
		return storage.NewAgent(storage.Options{Catalog: p.catalog(), Log: log}), nil
	},
	"statistics": func(p place, log *slog.Logger) (agent, error) {
		return statistics.New(statistics.Options{Tree: p.Tree, Node: p.Node, Storages: p.catalog(), Files: p.roundRobin(), Log: log}), nil
	},
	"task": newTasks,
	"wishes": func(p place, log *slog.Logger) (agent, error) {
		return &wishes.Agent{Tree: p.Tree, Node: p.Node, Log: log}, nil
	},
}

// newQEMU makes the agent of VMs.
func (p place) newQEMU(log *slog.Logger) (*qemu.Agent, error) {
	return qemu.New(qemu.Options{
		Tree: p.Tree, Node: p.Node, RunDir: p.guestRun(), Locks: p.guestLocks(), NoKVM: p.noKVM,
		Free: p.catalog(), Volumes: storages.Resolver{Catalog: p.catalog()}, Log: log,
		Storage: func(id string) error { _, _, err := p.catalog().Find(id); return err },
	})
}

func newFlags(p *place) *flag.FlagSet {
	flags := flag.NewFlagSet("pveagent", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage()) }
	flags.StringVar(&p.Tree, "pve", p.Tree, "where the cluster file system is mounted, or any directory laid out like it")
	flags.StringVar(&p.Node, "node", p.Node, "name of the local node")
	flags.StringVar(&p.Run, "run", p.Run, "directory for sockets, pid files and records")
	flags.BoolVar(&p.dryRun, "dry-run", p.dryRun, "print what would be done and end")
	flags.StringVar(&p.guests, "guests", p.guests, "at the end of the agents: keep them running, or stop them")
	flags.TextVar(&p.level, "log-level", p.level, "debug, info, warn or error")
	flags.StringVar(&p.dog, "watchdog", p.dog, "device that resets the node when high availability falls silent (default /dev/watchdog)")
	flags.BoolVar(&p.noKVM, "no-kvm", p.noKVM, "run all guests without KVM")
	return flags
}

func usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: pveagent [FLAGS] all|AGENT[,AGENT] [FLAGS]\n       pveagent [FLAGS] TOOL ARGUMENTS...\n       pveagent completion TOOL\n\n"+
		"agents: %s\ntools:  %s pve-ha-simulator\n\n",
		strings.Join(slices.Sorted(maps.Keys(agents)), " "), strings.Join(slices.Sorted(maps.Keys(tools)), " "))
	var p place
	flags := newFlags(&p)
	flags.SetOutput(&b)
	flags.PrintDefaults()
	return b.String()
}

// chosen returns the agents that are meant by a name on the command line.
func chosen(name string) []string {
	if name == "all" {
		return slices.Sorted(maps.Keys(agents))
	}
	return strings.Split(name, ",")
}

// runAgents runs agents until ctx ends.
func runAgents(ctx context.Context, p place, name string, args []string) int {
	flags := newFlags(&p)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	unknown := slices.ContainsFunc(chosen(name), func(name string) bool { return agents[name] == nil })
	if unknown || flags.NArg() > 0 || p.guests != "keep" && p.guests != "stop" {
		fmt.Fprint(os.Stderr, usage())
		return 2
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: p.level, ReplaceAttr: shortTime}))
	made, err := makeAgents(p, chosen(name), log)
	switch {
	case err != nil:
	case p.dryRun:
		err = preview(ctx, made)
	default:
		err = supervise(ctx, p, made, log)
	}
	if err != nil {
		log.Error("agents ended", "err", err)
		return 1
	}
	return 0
}

func makeAgents(p place, names []string, log *slog.Logger) (map[string]agent, error) {
	made := map[string]agent{}
	for _, name := range names {
		a, err := agents[name](p, log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made[name] = a
	}
	return made, nil
}

// supervise runs agents until ctx ends or one of them fails, then ends them
// all. Guests that are to be stopped are stopped while the agents still run.
func supervise(ctx context.Context, p place, made map[string]agent, log *slog.Logger) error {
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	failed := make(chan error, len(made))
	var all sync.WaitGroup
	for name, a := range made {
		all.Go(func() {
			if err := a.Run(running); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	log.Info("agents started", "node", p.Node, "path", p.Tree)
	var err error
	select {
	case <-ctx.Done():
		if p.guests == "stop" {
			err = stopGuests(running, p, log)
		}
	case err = <-failed:
	}
	for _, a := range made {
		if l, ok := a.(leaver); ok {
			err = errors.Join(err, l.Leave(running))
		}
	}
	end()
	all.Wait()
	log.Info("agents ended", "node", p.Node)
	return err
}

// preview prints the plans of agents.
func preview(ctx context.Context, made map[string]agent) (err error) {
	for _, name := range slices.Sorted(maps.Keys(made)) {
		p, ok := made[name].(planner)
		if !ok {
			continue
		}
		e := p.Loop().Preview(ctx, func(key string, plan []string, failure error) {
			for _, action := range plan {
				fmt.Printf("%s %s: %s\n", name, key, action)
			}
			if failure != nil {
				fmt.Printf("%s %s: error: %v\n", name, key, failure)
			}
		})
		if e != nil {
			err = e
		}
	}
	return err
}

// shortTime keeps the time of day: whoever collects the log knows the date.
func shortTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.String("time", a.Value.Time().Format("15:04:05.000"))
	}
	return a
}
