// Package qemu is the agent of virtual machines: it makes the VMs of its node
// run, pause and stop as power/VMID says, with the hardware that
// nodes/NODE/qemu-server/VMID.conf says.
//
// It owns the QEMU processes of the node and the directory with their pid
// files, sockets and records. A record holds what a VM was started with and
// what was plugged since, so that an agent that starts anew finds its VMs and
// knows what waits for a restart. It never decides what a VM should be: of the
// tree it writes power/VMID, when a guest switched itself off or the node was
// booted, and a configuration only to move what waits in its [PENDING] section
// into effect when the VM starts.
//
// A VM that crashed is not started again by itself: power/VMID keeps saying
// running, the status says crashed, and the next write to either file starts
// it. A VM that runs without a power file is left alone.
package qemu

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cgroup"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/plug"
	"etcpve/agents/qemu/port"
	"etcpve/agents/qemu/probe"
	"etcpve/agents/qemu/record"
	"etcpve/agents/reconcile"
	"etcpve/cfs/layout"
)

// Volumes finds the image behind a volume ID or an absolute path.
type Volumes interface {
	Resolve(ctx context.Context, id string) (cmdline.Volume, error)
}

// Options say where and for whom an agent works. Tree, Node and Log are required.
type Options struct {
	Tree   string // where the cluster file system is mounted
	Node   string // the local node
	RunDir string // for sockets, pid files and records; default /run/qemu-server
	Locks  string // for the node's guest locks; default /var/lock/qemu-server
	Binary string // QEMU; default qemu-system-x86_64
	Slice  string // the control group of the VMs; default qemu.slice
	BootID string // of the node; default the kernel's
	Kernel string // to probe KVM with; default the newest of /boot

	// KVMCache keeps what the probe of KVM found, for all agents of the machine;
	// default /run/etcpve/kvm-probe.
	KVMCache string

	// NoKVM keeps every guest off KVM without probing it.
	NoKVM bool

	Volumes Volumes               // of the storages
	Storage func(id string) error // why volumes cannot be made there; nil does not ask
	Free    Freer                 // of states that were resumed; nil keeps them
	Ports   plug.Ports            // default: by ip(8)
	Log     *slog.Logger
}

// An Agent runs the VMs of one node.
type Agent struct {
	Options
	prober *probe.Prober
	system host.System
	events chan string
	began  time.Time
	booted atomic.Bool // the start-up after a boot of the node is done

	mu     sync.Mutex // guards guests and facts
	guests map[uint32]*guest
	facts  map[string]cmdline.Host // by QEMU
	wg     sync.WaitGroup          // of event readers
}

// New prepares an agent.
func New(o Options) (*Agent, error) {
	defaultTo(&o.RunDir, defaultRun)
	defaultTo(&o.Locks, "/var/lock/qemu-server")
	defaultTo(&o.Binary, "qemu-system-x86_64")
	defaultTo(&o.KVMCache, "/run/etcpve/kvm-probe")
	defaultTo(&o.Slice, cgroup.Slice)
	if o.BootID == "" {
		text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("qemu: %w", err)
		}
		o.BootID = strings.TrimSpace(string(text))
	}
	for _, dir := range []string{o.RunDir, o.Locks} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("qemu: %w", err)
		}
	}
	if o.Ports == nil {
		o.Ports = port.New()
	}
	a := &Agent{
		Options: o,
		prober: &probe.Prober{
			Binary: o.Binary, Kernel: o.Kernel, Cache: o.KVMCache, BootID: o.BootID,
		},
		events: make(chan string),
		began:  now(),
		guests: map[uint32]*guest{},
		facts:  map[string]cmdline.Host{},
	}
	return a, nil
}

// defaultRun is where PVE's tools look, too.
const defaultRun = "/run/qemu-server"

func defaultTo(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// Loop returns the loop of the agent, for those who want its preview.
func (a *Agent) Loop() *reconcile.Loop {
	return reconcile.New(a, reconcile.Options{
		Name: "qemu", Tree: a.Tree, Node: a.Node, Events: a.events, Keys: a.running, Log: a.Log,
		Watches: []reconcile.Watch{
			{Dir: a.confDir(), Key: func(name string) (string, bool) {
				g, ok := layout.GuestOf(a.confDir() + "/" + name)
				return fmt.Sprint(g.VMID), ok
			}},
			{Dir: layout.PowerDir, Key: func(name string) (string, bool) {
				vmid, ok := layout.ParseVMID(name)
				return name, ok && a.concerns(vmid)
			}},
			{Dir: "virtual-guest", Key: func(string) (string, bool) { return "", true }},
		},
	})
}

// Run works until ctx ends. The VMs go on without it.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var aside sync.WaitGroup
	aside.Go(func() { a.startAfterBoot(ctx) })
	aside.Go(func() { a.meter().Run(ctx) })
	if !a.NoKVM {
		aside.Go(func() { a.prober.Ask(ctx) }) // takes up to 10 s, for which a first guest should not wait
	}
	err := a.Loop().Run(ctx)
	cancel()
	aside.Wait()
	a.Close()
	return err
}

// Close lets go of all VMs and waits for the readers of their events.
func (a *Agent) Close() {
	a.mu.Lock()
	guests := a.guests
	a.guests = map[uint32]*guest{}
	a.mu.Unlock()
	for _, g := range guests {
		g.disconnect()
	}
	a.wg.Wait()
}

func (a *Agent) confDir() string {
	return "nodes/" + a.Node + "/" + layout.QEMU.Dir()
}

func (a *Agent) confPath(vmid uint32) string {
	return layout.Guest{VMID: vmid, Node: a.Node, Kind: layout.QEMU}.Path()
}

// concerns reports whether a VMID belongs to a VM that is configured, or runs, here.
func (a *Agent) concerns(vmid uint32) bool {
	if _, err := os.Stat(filepath.Join(a.Tree, a.confPath(vmid))); err == nil {
		return true
	}
	_, err := os.Stat(a.records().File(vmid))
	return err == nil
}

// running names the VMs that have a record here, configured or not.
func (a *Agent) running(context.Context) (keys []string, err error) {
	entries, err := os.ReadDir(a.RunDir)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), record.Ext)
		if _, valid := layout.ParseVMID(name); ok && valid {
			keys = append(keys, name)
		}
	}
	return keys, err
}

// vmidOf reads a key, which is a VMID.
func vmidOf(key string) (uint32, error) {
	vmid, ok := layout.ParseVMID(key)
	if !ok {
		return 0, fmt.Errorf("vm %s: not a VMID", key)
	}
	return vmid, nil
}

// Report says what a VM does and what of its configuration waits.
func (a *Agent) Report(key string, d Desired, o State, err error) reconcile.Report {
	r := reconcile.Report{Path: a.confPath(d.VMID), Content: d.Text}
	if d.VMID == 0 {
		return reconcile.Report{}
	}
	r.Lines = append(r.Lines, reconcile.Line{Key: "guest", Value: o.word()})
	if o.alive() {
		r.Lines = append(r.Lines, reconcile.Line{Key: "pid", Value: strconv.Itoa(o.Record.Process.PID)},
			reconcile.Line{Key: "accel", Value: o.Record.Accel})
	}
	if o.Record.Crash != "" {
		r.Lines = append(r.Lines, reconcile.Line{Key: "reason", Value: o.Record.Crash})
	}
	for _, w := range slices.Concat(d.Problems, o.Record.Warnings) {
		r.Lines = append(r.Lines, reconcile.Line{Key: "warning", Value: w})
	}
	if d.Config == nil {
		return r
	}
	_, waits := plan(d, o)
	for _, p := range waits {
		r.Pending = append(r.Pending, reconcile.Pending(p))
	}
	r.Again = o.stopDeadline(d)
	if o.Silent != "" {
		r.Again = time.Second
	}
	return r
}

// Plan is pure: the run state first, then what a running VM can take at once.
func (a *Agent) Plan(d Desired, o State) []Action {
	actions, _ := plan(d, o)
	return actions
}

// now is the wall clock in whole seconds, as records keep it.
func now() time.Time { return time.Now().Truncate(time.Second) }

var _ reconcile.Agent[Desired, State, Action] = (*Agent)(nil)

// changes is the part of the plan that concerns the hardware.
func changes(d Desired, o State) ([]hotplug.Action, []hotplug.Pending) {
	return hotplug.Plan(o.Record.Config, d.Config, hotplug.Live{
		Devices: o.Devices, Releasing: o.Releasing, Balloon: o.Record.Balloon, Moving: o.Record.Moving,
	})
}
