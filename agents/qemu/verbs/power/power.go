// Package power starts and stops a VM, and suspends it to memory or to a volume.
//
// It owns how long each may take and what is said of it. It starts no QEMU
// itself: it writes the power file and waits for what the agent makes of it.
package power

import (
	"context"
	"fmt"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/verbs/job"
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

func (j Work) Start(ctx context.Context) error {
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
	if err := j.Become(ctx, qemu.Running, j.Seconds("timeout", StartTimeout), "running"); err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	return nil
}

func (j Work) Stop(ctx context.Context) error {
	if _, err := j.Unlocked(ctx); err != nil {
		return err
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
