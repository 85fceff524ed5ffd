package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/task"
	"etcpve/agents/tools/qm"
	"etcpve/cfs/layout"
)

// newTasks makes the agent that runs what tools ask for once.
func newTasks(p place, log *slog.Logger) (agent, error) {
	logs := ""
	if p.Run != "" {
		logs = filepath.Join(p.Run, "tasks")
	}
	return task.New(task.Options{
		Tree: p.Tree, Node: p.Node, LogDir: logs, Log: log,
		Handlers: map[string]task.Handler{qm.StopTask: p.stopVM},
	})
}

// How long QEMU may take to end after each signal.
const endWait = 10 * time.Second

// stopVM ends a VM at once. Its power file comes first, so that the agent of
// VMs sees an end that was wanted and not a crash.
func (p place) stopVM(ctx context.Context, r task.Request, log *task.Log) error {
	vmid, ok := layout.ParseVMID(r.ID)
	if !ok {
		return fmt.Errorf("id: %q is not a VMID", r.ID)
	}
	if err := p.writePower(vmid, qemu.Stopped); err != nil {
		return err
	}
	process, err := p.process(vmid)
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !host.Proc.Alive(process) {
			return nil
		}
		log.Printf("send %s to QEMU, process %d", signal, process.PID)
		if err := host.Proc.Signal(process, signal); err != nil && !errors.Is(err, host.ErrGone) {
			return fmt.Errorf("vm %d: %w", vmid, err)
		}
		wait, cancel := context.WithTimeout(ctx, endWait)
		err = host.Proc.WaitExit(wait, process)
		cancel()
	}
	return err
}

// process returns the QEMU of a VM; it is zero, and so not alive, if none was started.
func (p place) process(vmid uint32) (host.Process, error) {
	content, err := os.ReadFile(filepath.Join(p.guestRun(), fmt.Sprintf("%d.json", vmid)))
	if errors.Is(err, os.ErrNotExist) {
		return host.Process{}, nil
	}
	var record qemu.Record
	if err == nil {
		err = json.Unmarshal(content, &record)
	}
	return record.Process, err
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
