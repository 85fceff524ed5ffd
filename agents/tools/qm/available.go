package qm

import (
	"context"
	"errors"
	"fmt"

	"etcpve/agents/ha"
	"etcpve/agents/ha/files"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/section"
)

// A VM that HA looks after is not started and stopped behind its back: the wish
// goes to HA, which does it where and when it sees fit.

// managed reports whether HA looks after a VM. A resource that it is to ignore is
// nobody's.
func (p Place) managed(vmid uint32) (bool, error) {
	all, err := files.Tree{Root: p.Tree}.Configured()
	if mistakes := (files.Mistakes{}); errors.As(err, &mistakes) {
		err = nil // HA says so itself, and goes by the rest
	}
	r, ok := all[sid(vmid)]
	return ok && r.Request != ha.WantIgnored, err
}

func sid(vmid uint32) string { return fmt.Sprintf("vm:%d", vmid) }

// leftToHA passes a wish on, unless the VM is none of HA's or its lock is to be
// skipped, which HA does not do.
func (p Place) leftToHA(c *cli.Call, vmid uint32, verb string, pass func(files.Tree) error) (bool, error) {
	managed, err := p.managed(vmid)
	if err != nil || !managed || c.Bool("skiplock") {
		return false, err
	}
	fmt.Fprintf(c.Out, "Requesting HA %s for VM %d\n", verb, vmid)
	return true, pass(files.Tree{Root: p.Tree})
}

// startByHA makes HA want a VM to run.
func startByHA(ctx context.Context, vmid uint32) func(files.Tree) error {
	return func(t files.Tree) error {
		return t.Edit(ctx, files.Resources, func(d *section.Document) error {
			return d.Set(fmt.Sprint(vmid), "state", "started")
		})
	}
}

// stopByHA makes HA stop a VM, which has some seconds to switch off.
func stopByHA(ctx context.Context, vmid uint32, seconds int) func(files.Tree) error {
	return func(t files.Tree) error { return t.Queue(ctx, fmt.Sprintf("stop %s %d", sid(vmid), seconds)) }
}
