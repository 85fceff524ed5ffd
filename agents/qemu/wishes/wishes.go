// Package wishes has the volumes made that the configuration of a VM asks for:
// a line "scsi1: local:32" is a wish for 32 GiB of the storage local.
//
// It owns the way from such a line to the task that makes the volume and puts
// its name into the file, so that a disk can be added with an editor alone. It
// never makes a volume and never writes a configuration itself, and it leaves
// alone what is locked, what waits in [PENDING] and what other nodes have.
package wishes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/qemu/verbs"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/reconcile"
	"etcpve/agents/task"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// user is in whose name the tasks are: who may write the file may have its disks.
const user = "root@pam"

// An Agent looks after the VMs of one node.
type Agent struct {
	Tree string // where the cluster file system is mounted
	Node string // the local node
	Log  *slog.Logger
}

// An Action asks for the volumes of one VM.
type Action struct {
	VMID   uint32
	Wishes map[string]string // values by key
}

// String is the action as it is printed and logged.
func (a Action) String() string {
	return "ask for the volumes of " + strings.Join(slices.Sorted(maps.Keys(a.Wishes)), ", ")
}

// Loop returns the loop of the agent.
func (a *Agent) Loop() *reconcile.Loop {
	dir := "nodes/" + a.Node + "/" + layout.QEMU.Dir()
	return reconcile.New(a, reconcile.Options{
		Name: "wishes", Tree: a.Tree, Node: a.Node, Log: a.Log,
		Watches: []reconcile.Watch{{Dir: dir, Key: func(name string) (string, bool) {
			g, ok := layout.GuestOf(dir + "/" + name)
			return fmt.Sprint(g.VMID), ok
		}}},
	})
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error { return a.Loop().Run(ctx) }

// Desired reads the configuration of a VM; nil if it has none here.
func (a *Agent) Desired(_ context.Context, key string) (*guest.Config, error) {
	vmid, ok := layout.ParseVMID(key)
	if !ok {
		return nil, fmt.Errorf("vm %s: not a VMID", key)
	}
	g := layout.Guest{VMID: vmid, Node: a.Node, Kind: layout.QEMU}
	text, err := os.ReadFile(filepath.Join(a.Tree, g.Path()))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vm %d: %w", vmid, err)
	}
	c, _ := guest.Parse(layout.QEMU, vmid, string(text))
	return c, nil
}

// Observe has nothing to look at: a wish that came true is no longer in the file.
func (a *Agent) Observe(context.Context, string) (struct{}, error) { return struct{}{}, nil }

// Plan is pure.
func (a *Agent) Plan(c *guest.Config, _ struct{}) []Action {
	if c == nil || c.Main.Has("lock") {
		return nil
	}
	wishes := job.Wishes(c.Main)
	if len(wishes) == 0 {
		return nil
	}
	return []Action{{VMID: c.VMID, Wishes: wishes}}
}

// Apply waits until the task has ended: a wish is asked for once.
func (a *Agent) Apply(ctx context.Context, _ string, action Action) error {
	err := task.Ask(ctx, a.Tree, a.Node, task.Request{
		Type: verbs.Configure, ID: fmt.Sprint(action.VMID), User: user, Params: action.Wishes,
	})
	if err != nil {
		return fmt.Errorf("vm %d: %w", action.VMID, err)
	}
	return nil
}

// Report says nothing: the agent that runs the VMs speaks of their files.
func (a *Agent) Report(string, *guest.Config, struct{}, error) reconcile.Report {
	return reconcile.Report{}
}

var _ reconcile.Agent[*guest.Config, struct{}, Action] = (*Agent)(nil)
