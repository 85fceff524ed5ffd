// Package firewall is the command line tool pve-firewall.
//
// It owns its table of commands and their output, which is that of Proxmox VE's
// pve-firewall, and "test", which runs the packets of a directory. It never
// decides what a rule means: agents/firewall compiles, applies and simulates.
package firewall

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"etcpve/agents/firewall/node"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// A Place is where the tool works.
type Place struct {
	Tree   string // the cluster file system
	Node   string // the local node
	RunDir string // of the firewall's agent; default node.DefaultRun
}

// zoneForm is what a packet of a simulation can come from and go to.
const zoneForm = `(host|outside|nfvm|vm\d+(i\d+)?|ct\d+|([a-zA-Z][a-zA-Z0-9]{0,9})/(\S+))`

// New returns the tool for a place.
func New(p Place) *cli.Tool {
	return &cli.Tool{Name: "pve-firewall", Summary: "firewall of a node and its guests", Commands: []cli.Command{
		{Words: "compile", Summary: "Print the rules that the files ask for, and whether the kernel has others.", Run: p.compile},
		{Words: "localnet", Summary: "Print the networks from which the node is managed, and the cluster's own traffic.", Run: p.localnet},
		{Words: "restart", Summary: "Read all files anew and repair what is not as they say.", Run: p.start},
		{Words: "simulate", Summary: "Say what becomes of a packet under the rules that the files ask for.", Run: p.simulate, Options: packetOptions()},
		{Words: "start", Summary: "Start the firewall after it was stopped.", Run: p.start, Options: schema.Keys{
			"debug": about(schema.Truth().Else(0), "Stay in the foreground and keep the rules as the files say, as the agent does."),
		}},
		{Words: "status", Summary: "Print whether the firewall is enabled and running.", Run: p.status},
		{Words: "stop", Summary: "Remove all rules of the firewall until it is started again, or the node is booted.", Run: p.stop},
		{Words: "test", Summary: "Send the packets of a directory through the rules of its files.", Run: test,
			Args: []cli.Param{{Name: "directory", Rule: about(schema.Text().Must(), "With cluster.fw, host.fw, VMID.fw and tests.")}}},
	}}
}

// Run is the tool with the process's own streams. It returns the exit code.
func Run(p Place, args ...string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return New(p).Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

func packetOptions() schema.Keys {
	port := func(whose string) *schema.Property {
		return about(schema.Integer().Min(1).Max(65535), whose+" port.")
	}
	return schema.Keys{
		"dest":     about(schema.Named("ip"), "Destination address."),
		"source":   about(schema.Named("ip"), "Source address."),
		"dport":    port("Destination"),
		"sport":    port("Source"),
		"from":     about(schema.Matching(zoneForm).Else("outside"), "Where the packet comes from."),
		"to":       about(schema.Matching(zoneForm).Else("host"), "Where the packet goes to."),
		"protocol": about(schema.Matching(`(tcp|udp)`).Else("tcp"), "Protocol."),
		"verbose":  about(schema.Truth().Else(0), "Print each rule that the packet fulfils."),
	}
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

// agent returns an agent that is not running.
func (p Place) agent(c *cli.Call) *node.Agent {
	return node.New(node.Options{Tree: p.Tree, Node: p.Node, Run: p.RunDir, Log: slog.New(slog.NewTextHandler(c.Err, nil))})
}

// start lets the firewall work again, and brings the kernel up to date at once
// whether or not an agent runs.
func (p Place) start(ctx context.Context, c *cli.Call) error {
	a := p.agent(c)
	if err := a.Switch.Start(); err != nil {
		return err
	}
	if c.Bool("debug") {
		return a.Run(ctx)
	}
	return a.Converge(ctx)
}

func (p Place) stop(ctx context.Context, c *cli.Call) error {
	a := p.agent(c)
	if err := a.Switch.Stop(); err != nil {
		return err
	}
	return a.Converge(ctx)
}

func (p Place) status(ctx context.Context, c *cli.Call) error {
	a := p.agent(c)
	d, pending, err := a.Pending(ctx)
	if err != nil {
		return err
	}
	enabled, running, changes := "disabled", "stopped", ""
	if d.Cluster != nil && d.Cluster.Enabled("enable", false) {
		enabled = "enabled"
	}
	if a.Switch.Running() && !d.Stopped {
		running = "running"
	}
	if len(pending) > 0 {
		changes = " (pending changes)"
	}
	fmt.Fprintf(c.Out, "Status: %s/%s%s\n", enabled, running, changes)
	return nil
}
