package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/lrm"
	"etcpve/agents/host"
	"etcpve/agents/reconcile"
	"etcpve/agents/task"
	"etcpve/cfs/layout"
)

// What a power file asks for.
const (
	powerRunning = "running"
	powerStopped = "stopped"
)

// Waits for a guest's agent.
const (
	startWait = 90 * time.Second
	// stopWait is without a timeout of the order: the guest's agent ends a guest
	// that does not switch off within its own time.
	stopWait = 5 * time.Minute
	killWait = 10 * time.Second
	poll     = 200 * time.Millisecond
)

// guests are the node's guests as services. They are started and stopped by the
// agents of guests, through power files; what these say under .status counts.
type guests struct {
	ctx    context.Context
	files  files.Tree
	node   string
	runDir string
	log    ha.Log
}

var _ lrm.Guests = guests{}

// Running reports whether a guest uses its disks. For VMs the process counts,
// whatever its agent says.
func (g guests) Running(sid string) bool {
	at, err := guestOf(sid, g.node)
	if err != nil {
		return false
	}
	if at.Kind == layout.QEMU {
		_, alive := g.process(at.VMID)
		return alive
	}
	switch g.report(at).guest {
	case "", "stopped", "crashed":
		return false
	}
	return true
}

// Start asks for a guest to run and waits until it does.
func (g guests) Start(sid string) error {
	at, err := guestOf(sid, g.node)
	if err != nil {
		return err
	}
	asked := time.Now()
	if err := writePower(g.files, at.VMID, powerRunning); err != nil {
		return err
	}
	var said report
	err = g.await(startWait, func() bool {
		said = g.report(at)
		// Reports have milliseconds; one of an earlier try speaks of another start.
		return said.failed && said.time.After(asked) || said.guest == "running" && g.Running(sid)
	})
	if said.failed {
		err = errors.New(said.reason)
	}
	if err != nil {
		g.log.Err("service '%s': start: %v", sid, err)
	}
	return err
}

// Stop shuts a guest down. After the timeout of an order it is killed.
func (g guests) Stop(sid string, timeout *int) error {
	at, err := guestOf(sid, g.node)
	if err != nil {
		return err
	}
	if err := writePower(g.files, at.VMID, powerStopped); err != nil {
		return err
	}
	wait := stopWait
	if timeout != nil {
		wait = time.Duration(*timeout) * time.Second
	}
	stopped := func() bool { return !g.Running(sid) }
	if err := g.await(wait, stopped); err == nil || at.Kind != layout.QEMU {
		return err
	}
	g.kill(at.VMID)
	return g.await(killWait, stopped)
}

// Move gives a guest to another node: a VM as it runs where that is asked for,
// any other stopped, and its LRM starts it there.
func (g guests) Move(sid, target string, online bool) error {
	from, err := guestOf(sid, g.node)
	if err != nil {
		return err
	}
	verb, running := "relocate", g.Running(sid)
	if online = online && running && from.Kind == layout.QEMU; online {
		verb = "migrate"
	}
	g.log.Info("service %s - start %s to node '%s'", sid, verb, target)
	if running && !online {
		g.log.Info("stopping service %s (relocate)", sid)
		if err := g.Stop(sid, nil); err != nil {
			g.log.Err("service '%s': stop: %v", sid, err)
			return err
		}
		g.log.Info("service status %s stopped", sid)
	}
	if from.Kind == layout.QEMU {
		err = g.migrate(from, target, online)
	} else {
		to := from
		to.Node = target
		err = moveConfig(g.files, from, to)
	}
	if err != nil {
		g.log.Err("service '%s': move: %v", sid, err)
		return err
	}
	g.log.Info("service %s - end %s to node '%s'", sid, verb, target)
	return nil
}

// migrateTask is the task that moves a VM with all that belongs to it.
const migrateTask = "qmigrate"

// migrate has a VM moved by the task that everybody uses for that.
func (g guests) migrate(from layout.Guest, target string, online bool) error {
	params := map[string]string{"target": target}
	if online {
		params["online"], params["with-local-disks"] = "1", "1"
	}
	return task.Ask(g.ctx, g.files.Root, g.node, task.Request{Type: migrateTask, ID: strconv.FormatUint(uint64(from.VMID), 10), Params: params})
}

// await polls until done, at most for limit.
func (g guests) await(limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(g.ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, ctx.Err())
		case <-time.After(poll):
		}
	}
	return nil
}

// killAll ends VMs at once. It touches nothing but processes: it has to work
// while the cluster file system does not.
func (g guests) killAll(sids []string) {
	for _, sid := range sids {
		if at, err := guestOf(sid, g.node); err == nil && at.Kind == layout.QEMU {
			g.log.Err("fencing: kill service '%s'", sid)
			g.kill(at.VMID)
		}
	}
}

func (g guests) kill(vmid uint32) {
	if p, alive := g.process(vmid); alive {
		if err := host.Proc.Signal(p, syscall.SIGKILL); err != nil && !errors.Is(err, host.ErrGone) {
			g.log.Err("vm %d: kill: %v", vmid, err)
		}
	}
}

// process finds the QEMU that wrote a VM's pid file.
func (g guests) process(vmid uint32) (host.Process, bool) {
	file := filepath.Join(g.runDir, fmt.Sprintf("%d.pid", vmid))
	return host.Proc.Behind(file, file)
}

// report is what the agent of a guest says of it.
type report struct {
	guest, reason string
	failed        bool
	time          time.Time
}

func (g guests) report(at layout.Guest) (r report) {
	text, err := g.files.Read(".status/" + at.Path())
	if err != nil {
		return r
	}
	said := reconcile.ParseDocument(text)
	r = report{guest: said.Value("guest"), failed: said.State == reconcile.Failed, time: said.Time}
	if n := len(said.Errors); n > 0 {
		r.reason = said.Errors[n-1]
	}
	return r
}

// kinds are the stacks of the types of service.
var kinds = map[string]layout.Kind{"vm": layout.QEMU, "ct": layout.LXC}

// idOf is the VMID of a service, as text.
func idOf(sid string) string {
	_, id, _ := strings.Cut(sid, ":")
	return id
}

// guestOf is the guest behind a service, as configured on a node.
func guestOf(sid, node string) (layout.Guest, error) {
	kind, known := kinds[ha.TypeOf(sid)]
	vmid, valid := layout.ParseVMID(idOf(sid))
	if !known || !valid || node == "" {
		return layout.Guest{}, fmt.Errorf("service '%s': not a guest on node '%s'", sid, node)
	}
	return layout.Guest{VMID: vmid, Node: node, Kind: kind}, nil
}

func writePower(t files.Tree, vmid uint32, word string) error {
	return os.WriteFile(filepath.Join(t.Root, layout.PowerDir, fmt.Sprint(vmid)), []byte(word+"\n"), 0o640)
}

// moveConfig gives a guest to another node. One that is there already stays.
func moveConfig(t files.Tree, from, to layout.Guest) error {
	if from == to {
		return nil
	}
	err := os.Rename(filepath.Join(t.Root, from.Path()), filepath.Join(t.Root, to.Path()))
	if os.IsNotExist(err) {
		if _, e := os.Stat(filepath.Join(t.Root, to.Path())); e == nil {
			return nil
		}
	}
	return err
}
