package qemu

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/begun"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/plug"
	"etcpve/agents/qemu/record"
)

// A State is what the node shows of one VM.
type State struct {
	Known     bool          // it has a record here
	Record    record.Record // zero if it has none
	Status    string        // QEMU's own word, "" if no QEMU runs
	Silent    string        // why a QEMU that runs does not answer
	Ended     string        // how QEMU said that it would end, if it did
	Devices   map[string]bool
	Releasing map[string]bool // devices the guest was asked to give up
	Now       time.Time
}

func (s State) alive() bool { return s.Status != "" || s.Silent != "" }

// words are the operator's for QEMU's.
var words = map[string]string{
	"running": "running", "prelaunch": "paused", "paused": "paused", "suspended": "suspended", "shutdown": "stopped",
}

// word is the state for the status document.
func (s State) word() string {
	switch {
	case s.Silent != "":
		return "unresponsive"
	case s.Status != "":
		if w, ok := words[s.Status]; ok {
			return w
		}
		return s.Status
	case s.Record.Crash != "":
		return "crashed"
	}
	return "stopped"
}

// defaultDown is how long a guest may take to switch off.
const defaultDown = 180 * time.Second

// stopDeadline returns when to look again at a guest that was asked to switch
// off: when its time is over, or it is to be asked again.
func (s State) stopDeadline(d Desired) time.Duration {
	if s.Record.Stopping.IsZero() || !s.alive() {
		return 0
	}
	return max(min(time.Until(s.Record.Stopping.Add(downTime(d.Config))), pressAgain), time.Second)
}

// downTime reads the time-out of startup: order=N,up=N,down=N.
func downTime(c cmdline.Config) time.Duration {
	if o, err := c.Options("startup", "order"); err == nil {
		if n, err := strconv.Atoi(o["down"]); err == nil && n >= 0 {
			return time.Duration(n) * time.Second
		}
	}
	return defaultDown
}

// Observe looks at the process and asks QEMU.
func (a *Agent) Observe(ctx context.Context, key string) (s State, err error) {
	vmid, err := vmidOf(key)
	if err != nil {
		return s, err
	}
	s.Now = now()
	if s.Record, s.Known, err = a.records().Load(vmid); err != nil {
		return s, err
	}
	if !s.Known {
		return s, a.foreign(vmid)
	}
	if s.Record.Process.PID == 0 {
		// An agent ended between the start of QEMU and its own next step.
		written := func() (host.Process, bool) { return a.byPIDFile(vmid) }
		p, ok, err := begun.Wait(ctx, cmdline.RunFile(a.RunDir, vmid, "pid"), written)
		if err != nil {
			return s, fmt.Errorf("vm %d: %w", vmid, err)
		}
		if ok {
			s.Record.Process = p
			if err := a.records().Save(vmid, s.Record); err != nil {
				return s, err
			}
		}
	}
	if s.Record.Process.PID == 0 || !host.Proc.Alive(s.Record.Process) {
		s.Ended = a.lastWords(vmid)
		return s, nil
	}
	g := a.guest(vmid)
	m, err := g.connect(ctx)
	if err != nil {
		s.Silent = err.Error()
		return s, nil
	}
	s.Releasing = g.releasing()
	if err := s.ask(ctx, m); err != nil {
		s.Status, s.Silent = "", err.Error()
	}
	return s, nil
}

// foreign refuses to touch a VM that something else started here.
func (a *Agent) foreign(vmid uint32) error {
	if p, ok := a.byPIDFile(vmid); ok {
		return fmt.Errorf("vm %d: runs as process %d without a record of how it was started", vmid, p.PID)
	}
	return nil
}

// byPIDFile finds the QEMU that wrote a VM's pid file.
func (a *Agent) byPIDFile(vmid uint32) (host.Process, bool) {
	file := cmdline.RunFile(a.RunDir, vmid, "pid")
	return host.Proc.Behind(file, file)
}

func (s *State) ask(ctx context.Context, m *monitor.Monitor) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var status struct{ Status string }
	if err := m.Run(ctx, "query-status", nil, &status); err != nil {
		return err
	}
	devices, err := plug.Devices(ctx, m.Run)
	if err != nil {
		return err
	}
	s.Status, s.Devices = status.Status, devices
	return nil
}
