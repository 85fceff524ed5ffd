package verbs

import (
	"context"
	"fmt"
	"time"

	"etcpve/agents/qemu"
)

// How long the verbs wait, unless told. A guest may take as long to switch off
// as the agent gives it.
const (
	startTimeout    = 90 * time.Second
	shutdownTimeout = 200 * time.Second
)

func (j job) start(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return err
	}
	// A start is what ends the lock of a suspended VM.
	if lock := c.Main.Get("lock"); lock != "" && lock != "suspended" && !j.truth("skiplock") {
		return fmt.Errorf("VM is locked (%s)", lock)
	}
	if running, err := j.Running(ctx, j.vmid); err != nil || running {
		if err == nil {
			err = fmt.Errorf("VM %d already running", j.vmid)
		}
		return err
	}
	if err := j.become(ctx, qemu.Running, j.seconds("timeout", startTimeout), "running"); err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	return nil
}

// become writes the power file and waits until the VM is as wanted.
func (j job) become(ctx context.Context, power qemu.Power, limit time.Duration, wanted string) error {
	since, err := j.Begin(ctx, j.vmid, power)
	if err != nil {
		return err
	}
	return j.Await(ctx, j.vmid, since, limit, func(status string) bool { return status == wanted })
}

func (j job) stop(ctx context.Context) error {
	if _, err := j.load(ctx); err != nil {
		return err
	}
	if err := j.End(ctx, j.vmid, j.log.Printf); err != nil {
		return fmt.Errorf("VM stop failed - %w", err)
	}
	return nil
}

func (j job) shutdown(ctx context.Context) error {
	if _, err := j.load(ctx); err != nil {
		return err
	}
	running, err := j.Running(ctx, j.vmid)
	if err != nil || !running {
		return err
	}
	err = j.become(ctx, qemu.Stopped, j.seconds("timeout", shutdownTimeout), "stopped")
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case j.truth("forceStop"):
		j.log.Printf("VM still running - terminating now with SIGTERM")
		return j.End(ctx, j.vmid, j.log.Printf)
	}
	return fmt.Errorf("VM quit/powerdown failed - %w", err)
}

func (j job) reboot(ctx context.Context) error {
	if _, err := j.running(ctx); err != nil {
		return err
	}
	err := j.become(ctx, qemu.Stopped, j.seconds("timeout", shutdownTimeout), "stopped")
	if err != nil {
		return fmt.Errorf("VM quit/powerdown failed - %w", err)
	}
	return j.become(ctx, qemu.Running, startTimeout, "running")
}

func (j job) reset(ctx context.Context) error {
	if _, err := j.running(ctx); err != nil {
		return err
	}
	return j.Command(ctx, j.vmid, "system_reset", nil, nil)
}

func (j job) suspend(ctx context.Context) error {
	c, err := j.running(ctx)
	if err != nil {
		return err
	}
	if j.truth("todisk") {
		return j.hibernate(ctx, c)
	}
	return j.become(ctx, qemu.Paused, startTimeout, "paused")
}

func (j job) resume(ctx context.Context) error {
	c, err := j.Load(ctx, j.vmid)
	if err != nil {
		return err
	}
	running, err := j.Running(ctx, j.vmid)
	if err != nil {
		return err
	}
	if !running && c.Main.Get("lock") == "suspended" {
		return j.become(ctx, qemu.Running, startTimeout, "running")
	}
	if _, err := j.running(ctx); err != nil {
		return err
	}
	return j.become(ctx, qemu.Running, startTimeout, "running")
}
