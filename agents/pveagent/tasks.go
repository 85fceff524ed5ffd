package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/migrate"
	vmplace "etcpve/agents/qemu/place"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/task"
	"etcpve/cfs/format/upid"
	"etcpve/cfs/layout"
)

// newTasks makes the agent that does what is asked for once.
func newTasks(p place, log *slog.Logger) (agent, error) {
	at := vmplace.Place{Tree: p.Tree, Node: p.Node, RunDir: p.guestRun(), Locks: p.guestLocks(), Catalog: p.catalog(), Log: log}
	arrivals, err := p.newQEMU(log)
	if err != nil {
		return nil, err
	}
	vms, moves := verbs.Verbs{Place: at}, migrate.Verbs{Place: at, Arrivals: arrivals}
	o := task.Options{Tree: p.Tree, Node: p.Node, LogDir: p.taskLogs(), Handlers: vms.Handlers(), Repairs: vms.Repairs(), Log: log}
	maps.Copy(o.Handlers, moves.Handlers())
	maps.Copy(o.Repairs, moves.Repairs())
	if p.speed > 1 {
		o.SilentAfter = time.Minute / time.Duration(p.speed)
	}
	return task.New(o)
}

// taskLogs is where the logs of tasks are kept.
func (p place) taskLogs() string {
	if p.Run == "" {
		return upid.LogDir
	}
	return filepath.Join(p.Run, "tasks")
}

// process returns the QEMU of a VM; it is zero, and so not alive, if none was started.
func (p place) process(vmid uint32) (host.Process, error) {
	r, _, err := record.Dir(p.guestRun()).Load(vmid)
	return r.Process, err
}

func (p place) powerPath(vmid uint32) string {
	return filepath.Join(p.Tree, layout.PowerDir, fmt.Sprint(vmid))
}

func (p place) writePower(vmid uint32, power qemu.Power) error {
	if err := os.WriteFile(p.powerPath(vmid), []byte(string(power)+"\n"), 0o640); err != nil {
		return fmt.Errorf("vm %d: power: %w", vmid, err)
	}
	return nil
}

// stopPoll is how often guests that are being stopped are looked at.
const stopPoll = 200 * time.Millisecond

// stopGuests asks every VM of the node to switch off and waits until the agent
// has seen to it, which ends those that do not in time.
func stopGuests(ctx context.Context, p place, log *slog.Logger) (err error) {
	stopping := map[uint32]host.Process{}
	entries, err := os.ReadDir(p.guestRun())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = nil
	for _, e := range entries {
		name, _ := strings.CutSuffix(e.Name(), ".json")
		vmid, ok := layout.ParseVMID(name)
		if !ok {
			continue
		}
		process, e := p.process(vmid)
		if e == nil && !host.Proc.Alive(process) {
			continue
		}
		if e = errors.Join(e, p.writePower(vmid, qemu.Stopped)); e != nil {
			err = errors.Join(err, e)
			continue
		}
		log.Info("stopping guest", "vmid", vmid)
		stopping[vmid] = process
	}
	for vmid, process := range stopping {
		for host.Proc.Alive(process) {
			select {
			case <-time.After(stopPoll):
			case <-ctx.Done():
				return errors.Join(err, fmt.Errorf("vm %d: %w", vmid, ctx.Err()))
			}
		}
		log.Info("guest stopped", "vmid", vmid)
	}
	return err
}
