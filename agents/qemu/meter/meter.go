// Package meter says how the VMs of a node fare, and moves their balloons so
// that the node's memory is used but not exhausted.
//
// It owns the rounds, what is asked of a QEMU, and how much memory is to be
// handed out. It never starts or stops a VM, and never changes how much memory
// a configuration says; how memory is divided is for agents/qemu/balloon.
package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/balloon"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/sample"
)

// Interval is how often every VM is measured.
const Interval = 10 * time.Second

const (
	atOnce   = 8         // VMs that are asked at the same time
	maxStep  = 100 << 20 // bytes a balloon moves in one round
	target   = 80        // per cent of the node's memory that may be in use
	polling  = 2         // seconds between what a guest tells of its memory
	deadline = 5 * time.Second
)

// A VM is one of the node's. Process is zero if it is not running.
type VM struct {
	VMID    uint32
	Config  cmdline.Config
	Process host.Process
}

// VMs are those who run VMs.
type VMs interface {
	// Parse reads a configuration, with what waits in it.
	Parse(vmid uint32, content string) cmdline.Config

	// Running returns the process of a VM that runs, and the configuration it has
	// in effect.
	Running(vmid uint32) (host.Process, cmdline.Config, bool)

	// Ask runs a command of a VM's QEMU.
	Ask(ctx context.Context, vmid uint32, command string, args, result any) error
}

// A Meter measures the VMs of one node. It is for one goroutine.
type Meter struct {
	VMs
	Tree, Dir string // where the configurations are: Dir below Tree
	Node      string
	Log       *slog.Logger
	Sys       string                      // default /sys
	Memory    func() (host.Memory, error) // of the node; default /proc's

	parsed map[uint32]parsed
	usage  map[uint32]spent // at the last look
	told   map[string]bool  // what failed in the last round
}

// spent is what a process had used at some time.
type spent struct {
	host.Process
	cpu time.Duration
	at  time.Time
}

// Run works until ctx ends.
func (m *Meter) Run(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		m.Round(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Round measures all VMs once, says so, and moves balloons.
func (m *Meter) Round(ctx context.Context, now time.Time) {
	vms, err := m.list()
	m.tell("VMs", err)
	readings := m.measure(ctx, vms, now)
	lines := make([]string, len(readings))
	for i, r := range readings {
		lines[i] = r.Line()
	}
	m.tell("samples", sample.Publish(m.Tree, lines))
	goal, err := m.goal()
	m.tell("memory", err)
	m.balance(ctx, readings, goal)
}

// tell logs what fails, once until it works again. A tree without the file for
// samples is one that is not mounted.
func (m *Meter) tell(what string, err error) {
	if m.told == nil {
		m.told = map[string]bool{}
	}
	if err != nil && !m.told[what] {
		level := slog.LevelWarn
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, context.Canceled) {
			level = slog.LevelDebug
		}
		m.Log.Log(context.Background(), level, "statistics of VMs are incomplete", "of", what, "err", err)
	}
	m.told[what] = err != nil
}

// measure looks at all VMs, some at the same time: one that does not answer
// keeps the others waiting for as long as one command may take.
func (m *Meter) measure(ctx context.Context, vms []VM, now time.Time) []Reading {
	readings := make([]Reading, len(vms))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, vm := range vms {
		readings[i] = m.atRest(vm, now)
		if vm.Process.PID == 0 {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			m.ask(ctx, vm, &readings[i])
			<-places
		})
	}
	all.Wait()
	used, taps := map[uint32]spent{}, m.taps()
	for i, vm := range vms {
		if vm.Process.PID != 0 {
			m.process(vm, &readings[i], now, taps[vm.VMID], used)
		}
	}
	m.usage = used
	return readings
}

// goal is how much memory there is to hand out, or to take back if negative.
func (m *Meter) goal() (int64, error) {
	read := m.Memory
	if read == nil {
		read = host.Proc.Memory
	}
	memory, err := read()
	if err != nil {
		return 0, err
	}
	used := int64(memory.Total) - int64(memory.Available)
	return int64(memory.Total)/100*m.target() - used, nil
}

// target reads how full the node's memory is to be, from the node's own
// configuration.
func (m *Meter) target() int64 {
	text, err := os.ReadFile(filepath.Join(m.Tree, "nodes", m.Node, "config"))
	if err != nil {
		return target
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "ballooning-target:"); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil && n >= 0 && n <= 100 {
				return n
			}
		}
	}
	return target
}

// balance moves balloons towards the goal.
func (m *Meter) balance(ctx context.Context, readings []Reading, goal int64) {
	var guests []balloon.Guest
	for _, r := range readings {
		guests = append(guests, r.guest)
	}
	plan := balloon.Plan(guests, goal, maxStep)
	for _, g := range guests {
		size, ok := plan[g.VMID]
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, deadline)
		err := m.Ask(ctx, g.VMID, "balloon", map[string]any{"value": size}, nil)
		cancel()
		m.tell(fmt.Sprintf("the balloon of %d", g.VMID), err)
		m.Log.Debug("balloon", "vmid", g.VMID, "from", g.Size, "to", size, "goal", goal)
	}
}
