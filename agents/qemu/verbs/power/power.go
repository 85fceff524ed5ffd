// Package power starts and stops a VM, and suspends it to memory or to a volume.
//
// It owns how long each may take and what is said of it. It starts no QEMU
// itself: it writes the power file and waits for what the agent makes of it.
package power

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/state"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/task"
	"etcpve/cfs/layout"
)

// Work is one task.
type Work struct{ job.Job }

// Of returns the work of a task.
func Of(j job.Job) Work { return Work{j} }

// How long the verbs wait, unless told. A guest may take as long to switch off
// as the agent gives it.
const (
	StartTimeout    = 90 * time.Second
	shutdownTimeout = 200 * time.Second
)

func (j Work) Start(ctx context.Context) (failure error) {
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return err
	}
	// A start is what ends the lock of a suspended VM.
	if lock := c.Main.Get("lock"); lock != "" && lock != "suspended" && !j.Truth("skiplock") {
		return fmt.Errorf("VM is locked (%s)", lock)
	}
	if running, err := j.Running(ctx, j.VMID); err != nil || running {
		if err == nil {
			err = fmt.Errorf("VM %d already running", j.VMID)
		}
		return err
	}
	otherwise, err := j.otherwise()
	if err != nil {
		return err
	}
	if otherwise != nil {
		if err := j.ResumeFrom(j.VMID, *otherwise); err != nil {
			return err
		}
		// A start that failed is no rule for the next one.
		defer func() { failure = errors.Join(failure, j.ForgetResume(j.VMID)) }()
	}
	if err := j.Become(ctx, qemu.Running, j.Seconds("timeout", StartTimeout), "running"); err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	return nil
}

// arriving are the options of a start that a migration of Proxmox VE's makes.
var arriving = []string{"migratedfrom", "migration_network", "migration_type", "targetstorage", "with-conntrack-state"}

// otherwise is what this start does in another way than configured.
func (j Work) otherwise() (*state.Resumption, error) {
	for _, key := range arriving {
		if j.Text(key) != "" && j.Text(key) != "0" {
			return nil, fmt.Errorf("%s: a VM that arrives needs no start: use 'qm migrate' on the node it is on", key)
		}
	}
	r := state.Resumption{Volume: j.Text("stateuri"), Machine: j.Text("machine"), CPU: j.Text("force-cpu"), HostMTU: j.Text("nets-host-mtu")}
	switch {
	case slices.Contains([]string{"tcp", "unix"}, r.Volume):
		return nil, fmt.Errorf("stateuri: '%s' is what a migration uses: use 'qm migrate' on the node the VM is on", r.Volume)
	case r.Volume == "" && r.Machine == "" && r.CPU == "" && r.HostMTU == "":
		return nil, nil
	}
	return &r, nil
}

// Stop ends a VM at once.
func (j Work) Stop(ctx context.Context) error {
	if from := j.Text("migratedfrom"); from != "" && from != j.Node {
		return j.leave(ctx, from)
	}
	if j.Truth("overrule-shutdown") {
		if err := j.overrule(ctx); err != nil {
			return err
		}
	}
	if _, err := j.Unlocked(ctx); err != nil {
		return err
	}
	if limit := j.Seconds("timeout", 0); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if err := j.End(ctx, j.VMID, j.Log.Printf); err != nil {
		return fmt.Errorf("VM stop failed - %w", err)
	}
	return nil
}

func (j Work) Shutdown(ctx context.Context) error {
	if _, err := j.Unlocked(ctx); err != nil {
		return err
	}
	running, err := j.Running(ctx, j.VMID)
	if err != nil || !running {
		return err
	}
	err = j.Become(ctx, qemu.Stopped, j.Seconds("timeout", shutdownTimeout), "stopped")
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case j.Truth("forceStop"):
		j.Log.Printf("VM still running - terminating now with SIGTERM")
		return j.End(ctx, j.VMID, j.Log.Printf)
	}
	return fmt.Errorf("VM quit/powerdown failed - %w", err)
}

func (j Work) Reboot(ctx context.Context) error {
	if _, err := j.Live(ctx); err != nil {
		return err
	}
	err := j.Become(ctx, qemu.Stopped, j.Seconds("timeout", shutdownTimeout), "stopped")
	if err != nil {
		return fmt.Errorf("VM quit/powerdown failed - %w", err)
	}
	return j.Become(ctx, qemu.Running, StartTimeout, "running")
}

func (j Work) Reset(ctx context.Context) error {
	if _, err := j.Live(ctx); err != nil {
		return err
	}
	return j.Command(ctx, j.VMID, "system_reset", nil, nil)
}

func (j Work) Suspend(ctx context.Context) error {
	c, err := j.Live(ctx)
	if err != nil {
		return err
	}
	if j.Truth("todisk") {
		return j.hibernate(ctx, c)
	}
	return j.Become(ctx, qemu.Paused, StartTimeout, "paused")
}

func (j Work) Resume(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if errors.Is(err, os.ErrNotExist) && j.Truth("nocheck") {
		return j.Command(ctx, j.VMID, "cont", nil, nil)
	}
	if err != nil {
		return err
	}
	running, err := j.Running(ctx, j.VMID)
	if err != nil {
		return err
	}
	if !running && c.Main.Get("lock") == "suspended" {
		return j.Become(ctx, qemu.Running, StartTimeout, "running")
	}
	if _, err := j.Live(ctx); err != nil {
		return err
	}
	return j.Become(ctx, qemu.Running, StartTimeout, "running")
}

// overruleWait is how long tasks that are overruled may take to end.
const overruleWait = 10 * time.Second

// overrule stops the tasks that wait for the guest to switch off.
func (j Work) overrule(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, overruleWait)
	defer cancel()
	n, err := task.StopAll(ctx, j.Tree, j.Node, "qmshutdown", strconv.FormatUint(uint64(j.VMID), 10))
	if n > 0 {
		j.Log.Printf("stopped %d task(s) that waited for the VM to shut down", n)
	}
	return err
}

// leave ends what still runs here of a VM that another node has.
func (j Work) leave(ctx context.Context, node string) error {
	path := layout.Guest{VMID: j.VMID, Node: node, Kind: layout.QEMU}.Path()
	if _, err := os.Stat(filepath.Join(j.Tree, path)); err != nil {
		return job.Wording("Configuration file '" + path + "' does not exist")
	}
	if err := j.EndHere(ctx, j.VMID, j.Log.Printf); err != nil {
		return fmt.Errorf("VM stop failed - %w", err)
	}
	return nil
}
