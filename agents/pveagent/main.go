// Command pveagent is every agent and every tool of a node, chosen by the name
// it is called by or by its first argument: "pveagent all", "pveagent qemu",
// "pveagent qm list", or qm as a link to it.
//
// It owns the wiring: which agents and tools there are, their flags, how they
// start and end. It decides nothing about a guest, and ends with none of them
// unless it is asked to.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"etcpve/agents/tools/cli"
	"etcpve/agents/tools/firewall"
	"etcpve/agents/tools/hamanager"
	"etcpve/agents/tools/hasimulator"
	"etcpve/agents/tools/pvesm"
	"etcpve/agents/tools/qm"
)

func main() {
	os.Exit(run(filepath.Base(os.Args[0]), os.Args[1:]))
}

// tools are the command line tools, each made for the place it works at.
var tools = map[string]func(place) *cli.Tool{
	"pve-firewall": func(p place) *cli.Tool {
		return firewall.New(firewall.Place{Tree: p.Tree, Node: p.Node, RunDir: p.firewallRun()})
	},
	"ha-manager": func(p place) *cli.Tool { return hamanager.New(p.Tree) },
	"pvesm": func(p place) *cli.Tool {
		return pvesm.New(pvesm.Place{Catalog: p.catalog()})
	},
	"qm":        func(p place) *cli.Tool { return qm.New(p.qm()) },
	"qmrestore": func(p place) *cli.Tool { return qm.NewRestore(p.qm()) },
}

func (p place) qm() qm.Place {
	return qm.Place{Tree: p.Tree, Node: p.Node, RunDir: p.guestRun(), TaskLogs: p.taskLogs()}
}

// run answers under a name and returns the exit code.
func run(name string, args []string) int {
	p := placeOf(os.Getenv)
	if name == "pveagent" {
		flags := newFlags(&p)
		if err := flags.Parse(args); err != nil {
			return 2
		}
		if flags.NArg() == 0 {
			fmt.Fprint(os.Stderr, usage())
			return 2
		}
		name, args = flags.Arg(0), flags.Args()[1:]
	}
	if name == "pve-ha-simulator" { // it has a terminal instead of a place
		return hasimulator.Run(args, os.Stdin, os.Stdout, os.Stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if tool, ok := tools[name]; ok {
		return mounted(tool(p), p.Tree).Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	}
	if name == "completion" && len(args) == 1 && tools[args[0]] != nil {
		fmt.Print(tools[args[0]](p).Bash())
		return 0
	}
	return runAgents(ctx, p, name, args)
}
