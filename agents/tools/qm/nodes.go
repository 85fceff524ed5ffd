package qm

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"etcpve/agents/reconcile"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/layout"
)

// local are the commands that hold a conversation with a VM's process, or need
// what only its node has.
var local = []string{
	"showcmd", "monitor", "terminal", "vncproxy", "nbdstop", "sendkey", "cleanup", "cloudinit dump",
	"guest cmd", "guest exec", "guest exec-status", "guest passwd",
}

// anywhere makes the commands work for the VMs of all nodes: each is carried out
// at the node of its VM, by whose files and tasks it is done.
func anywhere(p Place) []cli.Command {
	all := p.commands()
	for i, command := range all {
		if len(command.Args) == 0 || command.Args[0].Name != "vmid" || slices.Contains([]string{"create", "importovf", "import"}, command.Words) {
			continue
		}
		all[i].Run = func(ctx context.Context, c *cli.Call) error {
			there, remote := p.of(vmidOf(c))
			switch {
			case !remote:
				return command.Run(ctx, c)
			case slices.Contains(local, command.Words):
				return fmt.Errorf("VM %d is on node '%s': qm %s works only there", vmidOf(c), there.Node, command.Words)
			}
			return there.commands()[i].Run(ctx, c)
		}
	}
	return all
}

// of returns the place of a VM that is on another node.
func (p Place) of(vmid uint32) (there Place, remote bool) {
	if _, err := os.Stat(filepath.Join(p.Tree, p.confPath(vmid))); err == nil {
		return p, false
	}
	nodes, _ := os.ReadDir(filepath.Join(p.Tree, "nodes")) // the command says that it finds nothing
	for _, node := range nodes {
		path := layout.Guest{VMID: vmid, Node: node.Name(), Kind: layout.QEMU}.Path()
		if _, err := os.Stat(filepath.Join(p.Tree, path)); err == nil {
			p.Node, p.TaskLogs, p.remote = node.Name(), "", true
			return p, true
		}
	}
	return p, false
}

// report is what the node of a VM says of it; nothing is said of one that never ran.
func (p Place) report(vmid uint32) observed {
	said := reconcile.Read(p.Tree, p.confPath(vmid))
	o := observed{status: cmp.Or(said.Value("guest"), "stopped")}
	_, _ = fmt.Sscan(said.Value("pid"), &o.process.PID) // 0 for none
	return o
}
