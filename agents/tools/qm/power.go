package qm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/qemu"
	"etcpve/agents/task"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/layout"
)

// How long the commands wait, unless told.
const (
	startTimeout    = 90 * time.Second
	shutdownTimeout = 200 * time.Second // a little more than the agent gives the guest
	stopTimeout     = 60 * time.Second
)

// powerPoll is how often a VM that is waited for is looked at.
const powerPoll = 100 * time.Millisecond

// StopTask is the type of the task that ends a VM at once.
const StopTask = "qmstop"

func powerPath(vmid uint32) string {
	return layout.PowerDir + "/" + strconv.FormatUint(uint64(vmid), 10)
}

func timeout(c *cli.Call, otherwise time.Duration) time.Duration {
	if seconds, err := strconv.Atoi(c.Value("timeout")); err == nil {
		return time.Duration(seconds) * time.Second
	}
	return otherwise
}

// begin reads the VM that a command is about and writes what it shall do.
func (p Place) begin(ctx context.Context, c *cli.Call, power qemu.Power) (v vm, since time.Time, err error) {
	if v, err = p.load(vmidOf(c)); err != nil {
		return v, since, err
	}
	if err = v.locked(c); err != nil {
		return v, since, err
	}
	if err = p.untilNew(ctx, powerPath(v.VMID)); err != nil {
		return v, since, err
	}
	// The status counts in milliseconds.
	since = time.Now().Truncate(time.Millisecond)
	return v, since, p.write(powerPath(v.VMID), string(power)+"\n")
}

// untilNew waits until a write gives a file another time than it has: the file
// system counts whole seconds, and a guest that crashed is started again only by
// a power file that was written since.
func (p Place) untilNew(ctx context.Context, path string) error {
	info, err := os.Stat(filepath.Join(p.Tree, path))
	if err != nil {
		return nil // there is none to be told from
	}
	select {
	case <-time.After(time.Until(info.ModTime().Truncate(time.Second).Add(time.Second))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await polls until a VM is as wanted. It ends early with what the agent says
// stands in the way.
func (p Place) await(ctx context.Context, vmid uint32, since time.Time, limit time.Duration, wanted func(observed) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if wanted(p.observe(ctx, vmid)) {
			return nil
		}
		s := p.readStatus(vmid)
		if s.state == "failed" && !s.when.Before(since) {
			return errors.New(strings.Join(s.errors, "\n"))
		}
		select {
		case <-time.After(powerPoll):
		case <-ctx.Done():
			if s.reasons != nil {
				return fmt.Errorf("%s (after %s)", strings.Join(s.reasons, "; "), limit)
			}
			return fmt.Errorf("timeout after %s; is pveagent running on node %s?", limit, p.Node)
		}
	}
}

func (p Place) start(ctx context.Context, c *cli.Call) error {
	if v, err := p.load(vmidOf(c)); err == nil && p.observe(ctx, v.VMID).runs() {
		return fmt.Errorf("VM %d already running", v.VMID)
	}
	v, since, err := p.begin(ctx, c, qemu.Running)
	if err != nil {
		return err
	}
	err = p.await(ctx, v.VMID, since, timeout(c, startTimeout), func(o observed) bool { return o.status == "running" })
	if err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	return nil
}

func (p Place) shutdown(ctx context.Context, c *cli.Call) error {
	v, since, err := p.begin(ctx, c, qemu.Stopped)
	if err != nil {
		return err
	}
	err = p.await(ctx, v.VMID, since, timeout(c, shutdownTimeout), func(o observed) bool { return !o.runs() })
	if err == nil {
		return nil
	}
	if c.Bool("forceStop") {
		return p.end(ctx, v.VMID, stopTimeout)
	}
	return fmt.Errorf("VM quit/powerdown failed - %w", err)
}

func (p Place) stop(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if err := v.locked(c); err != nil {
		return err
	}
	return p.end(ctx, v.VMID, timeout(c, stopTimeout))
}

// end asks the agent to end a VM at once.
func (p Place) end(ctx context.Context, vmid uint32, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	id := strconv.FormatUint(uint64(vmid), 10)
	if err := task.Ask(ctx, p.Tree, p.Node, task.Request{Type: StopTask, ID: id}); err != nil {
		return fmt.Errorf("VM stop failed - %w", err)
	}
	return nil
}

func (p Place) reboot(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if !p.observe(ctx, v.VMID).runs() {
		return fmt.Errorf("VM %d not running", v.VMID)
	}
	if err := p.shutdown(ctx, c); err != nil {
		return err
	}
	return p.start(ctx, c)
}

func (p Place) suspend(ctx context.Context, c *cli.Call) error {
	return p.toggle(ctx, c, qemu.Paused, "paused")
}

func (p Place) resume(ctx context.Context, c *cli.Call) error {
	return p.toggle(ctx, c, qemu.Running, "running")
}

func (p Place) toggle(ctx context.Context, c *cli.Call, power qemu.Power, status string) error {
	vmid := vmidOf(c)
	if _, err := p.load(vmid); err != nil {
		return err
	}
	if !p.observe(ctx, vmid).runs() {
		return fmt.Errorf("VM %d not running", vmid)
	}
	_, since, err := p.begin(ctx, c, power)
	if err != nil {
		return err
	}
	return p.await(ctx, vmid, since, startTimeout, func(o observed) bool { return o.status == status })
}

func (p Place) wait(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if c.Has("timeout") {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout(c, 0))
		defer cancel()
	}
	for p.observe(ctx, v.VMID).runs() {
		select {
		case <-time.After(powerPoll):
		case <-ctx.Done():
			return fmt.Errorf("got timeout: %w", ctx.Err())
		}
	}
	return nil
}
