package qm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/ha/files"
	"etcpve/agents/qemu/migrate"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/tools/cli"
	"etcpve/agents/tools/hamanager"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

func (p Place) moves() []cli.Command {
	return []cli.Command{
		{Words: "migrate", Summary: "Move a VM to another node, with its disks that only this node has. The task is one of this node.", Run: p.migrate,
			Args: and(cli.Param{Name: "target", Rule: about(schema.Named("pve-node").Must(), "The node.")}), Options: schema.Keys{
				"online":               about(schema.Truth(), "Move it while it runs."),
				"with-local-disks":     about(schema.Truth(), "Move the disks of a VM that runs, too."),
				"targetstorage":        about(schema.Named("storage-pair-list"), "Storages for the disks: FROM:TO pairs, a single one for all others, or 1 for the same."),
				"force":                about(schema.Truth(), "Move a stopped VM that uses devices of the node."),
				"bwlimit":              bandwidth(),
				"migration_network":    about(schema.Named("CIDR"), "The network to use, by default that of datacenter.cfg or of the cluster."),
				"migration_type":       about(schema.Choice("secure", "insecure"), "Accepted; everything is encrypted always."),
				"with-conntrack-state": about(schema.Truth().Else(0), "Accepted; connections that the firewall tracks are not moved."),
			}},
		{Words: "remote-migrate", Summary: "Refused after its checks: a VM goes to another cluster through that cluster's API, which nothing here speaks.", Run: p.remoteMigrate,
			Args: and(cli.Param{Name: "target-vmid", Rule: about(number(), "VMID there."), Optional: true},
				cli.Param{Name: "target-endpoint", Rule: about(schema.Named("proxmox-remote").Must(), "The other cluster: host=, apitoken=, fingerprint=, port=.")}),
			Options: schema.Keys{
				"target-bridge":  about(schema.Named("bridge-pair-list").Must(), "Bridges there: FROM:TO pairs, a single one for all others, or 1 for the same."),
				"target-storage": about(schema.Named("storage-pair-list").Must(), "Storages there, likewise."),
				"online":         about(schema.Truth(), "Move it while it runs."),
				"delete":         about(schema.Truth().Else(0), "Remove it here afterwards."),
				"bwlimit":        bandwidth(),
			}},
		{Words: "mtunnel", Summary: "Answer the questions of another node's migration on standard input. Nodes with this project do without.", Run: p.mtunnel},
	}
}

// migrate asks for the task of this node, or has HA ask for it.
func (p Place) migrate(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if c.Value("target") == p.Node {
		return wording("target is local node.")
	}
	if err := v.locked(c); err != nil {
		return err
	}
	managed, err := p.highlyAvailable(v.VMID)
	switch {
	case err != nil:
		return err
	case managed:
		target := c.Value("target")
		fmt.Fprintf(c.Out, "Requesting HA migration for VM %d to node %s\n", v.VMID, target)
		if hamanager.New(p.Tree).Run(ctx, []string{"migrate", fmt.Sprintf("vm:%d", v.VMID), target}, nil, c.Out, c.Err) != 0 {
			return wording("HA did not accept the request")
		}
		return nil
	}
	return p.do(ctx, c, migrate.Migrate, v.VMID, parameters(c))
}

// remoteMigrate tells why a VM cannot go to another cluster, once it might.
func (p Place) remoteMigrate(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err == nil {
		err = v.locked(c)
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("VM %d stays: other clusters are reached through their API only, which is not spoken here", v.VMID)
}

// highlyAvailable reports whether HA looks after a VM.
func (p Place) highlyAvailable(vmid uint32) (bool, error) {
	managed, err := files.Tree{Root: p.Tree}.Configured()
	var mistakes files.Mistakes
	if errors.As(err, &mistakes) { // whatever they are, the resource is there or not
		err = nil
	}
	_, known := managed[fmt.Sprintf("vm:%d", vmid)]
	return known, err
}

// mtunnel answers line by line: a question, then OK or ERR.
func (p Place) mtunnel(ctx context.Context, c *cli.Call) error {
	const version = 1
	fmt.Fprintf(c.Out, "tunnel online\nver %d\n", version)
	lines := bufio.NewScanner(c.In)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		err := errors.New("unknown command")
		switch verb {
		case "quit":
			fmt.Fprintln(c.Out, "OK")
			return nil
		case "version":
			fmt.Fprintf(c.Out, "ver %d\n", version)
			err = nil
		case "resume":
			vmid, ok := layout.ParseVMID(rest)
			if err = fmt.Errorf("'%s' is not a VMID", rest); ok {
				err = p.do(ctx, c, verbs.Resume, vmid, nil)
			}
		}
		if err != nil {
			fmt.Fprintf(c.Out, "ERR: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Fprintln(c.Out, "OK")
	}
	return lines.Err()
}
