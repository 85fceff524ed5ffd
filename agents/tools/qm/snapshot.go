package qm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// listSnapshots shows the tree, a line each, one blank deeper for each parent.
func (p Place) listSnapshots(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	for _, s := range guest.Tree(v.Config) {
		when, description := "", "no-description"
		if s.Time > 0 {
			when = time.Unix(s.Time, 0).Local().Format(time.DateTime)
		}
		if text, _, _ := strings.Cut(s.Description, "\n"); text != "" {
			description = text
		}
		if s.Name == guest.Current {
			description = "You are here!"
		}
		prefix := strings.Repeat(" ", s.Depth) + "`->"
		fmt.Fprintf(c.Out, "%s %-*s %-23s %s\n", prefix, max(0, 30-len(prefix)), s.Name, when, description)
	}
	return nil
}

// rescan looks at one VM, or at all of this node.
func (p Place) rescan(ctx context.Context, c *cli.Call) (failures error) {
	fmt.Fprintln(c.Out, "rescan volumes...")
	vmids, err := p.vmids()
	if err != nil {
		return err
	}
	if c.Has("vmid") {
		if vmids = []uint32{vmidOf(c)}; vmids[0] == 0 {
			return errors.New("vmid: not a VMID")
		}
		if _, err := p.load(vmids[0]); err != nil {
			return err
		}
	}
	if c.Bool("dryrun") {
		fmt.Fprintln(c.Out, "NOTE: running in dry-run mode, won't write changes out!")
	}
	for _, vmid := range vmids {
		failures = errors.Join(failures, p.do(ctx, c, verbs.Rescan, vmid, map[string]string{"dryrun": c.Value("dryrun")}))
	}
	return failures
}

// unlink is set --delete of disks.
func (p Place) unlink(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if err := v.locked(c); err != nil {
		return err
	}
	keys := schema.SplitList(c.Value("idlist"))
	for _, key := range keys {
		if !v.Main.Has(key) {
			return fmt.Errorf("disk '%s' does not exist", key)
		}
	}
	params := map[string]string{"delete": strings.Join(keys, ","), "force": c.Value("force")}
	fmt.Fprintf(c.Out, "update VM %d: -delete %s\n", v.VMID, params["delete"])
	return p.do(ctx, c, verbs.Configure, v.VMID, params)
}

// cleanupWait is how long the agent may take behind a VM.
const cleanupWait = 30 * time.Second

func (p Place) cleanup(ctx context.Context, c *cli.Call) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupWait)
	defer cancel()
	for p.observe(ctx, vmidOf(c)).runs() {
		select {
		case <-time.After(powerPoll):
		case <-ctx.Done():
			return errors.New("vm still running")
		}
	}
	return nil
}
