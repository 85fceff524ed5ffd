package qm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"etcpve/agents/qemu/verbs"
	"etcpve/agents/task"
	"etcpve/agents/tools/cli"
)

// powerPoll is how often a VM that is waited for is looked at.
const powerPoll = 100 * time.Millisecond

func timeout(c *cli.Call, otherwise time.Duration) time.Duration {
	if seconds, err := strconv.Atoi(c.Value("timeout")); err == nil {
		return time.Duration(seconds) * time.Second
	}
	return otherwise
}

// A need is what a command refuses at once, before a task is asked for.
type need int

const (
	anyhow   need = iota
	unlocked      // the VM is not locked
	running       // it is not locked, and runs
	stopped       // it is not locked, and does not run
)

// verb makes a command of a task: its arguments and options are the task's
// parameters.
func (p Place) verb(kind string, n need) func(context.Context, *cli.Call) error {
	return func(ctx context.Context, c *cli.Call) error {
		if err := p.meets(ctx, c, kind, n); err != nil {
			return err
		}
		return p.do(ctx, c, kind, vmidOf(c), parameters(c))
	}
}

// parameters are what a call says, except for whom.
func parameters(c *cli.Call) map[string]string {
	params := map[string]string{}
	for key, value := range c.Values {
		if key != "vmid" {
			params[key] = value
		}
	}
	return params
}

// do has a task done and shows its log.
func (p Place) do(ctx context.Context, c *cli.Call, kind string, vmid uint32, params map[string]string) error {
	asking := task.Asking{
		Tree: p.Tree, Node: p.Node, LogDir: p.TaskLogs, Line: func(line string) { fmt.Fprintln(c.Out, line) },
	}
	return asking.Do(ctx, task.Request{Type: kind, ID: strconv.FormatUint(uint64(vmid), 10), Params: params})
}

// meets makes the checks that need no task.
func (p Place) meets(ctx context.Context, c *cli.Call, kind string, n need) error {
	v, err := p.load(vmidOf(c))
	if err != nil || n == anyhow {
		return err
	}
	// A suspended VM is unlocked by its start.
	lifts := slices.Contains([]string{verbs.Start, verbs.Resume}, kind) && v.Main.Get("lock") == "suspended"
	if p.remote {
		if err := v.locked(c); err != nil && !lifts {
			return err
		}
		return nil // whether it runs, its node knows best
	}
	runs := p.observe(ctx, v.VMID).runs()
	if kind == verbs.Start && runs {
		return fmt.Errorf("VM %d already running", v.VMID)
	}
	if err := v.locked(c); err != nil && !lifts {
		return err
	}
	switch {
	case n == running && !runs && !lifts:
		return fmt.Errorf("VM %d not running", v.VMID)
	case n == stopped && runs:
		return fmt.Errorf("VM %d is running - destroy failed", v.VMID)
	}
	return nil
}

func (p Place) start(ctx context.Context, c *cli.Call) error {
	if err := p.meets(ctx, c, verbs.Start, stopped); err != nil {
		return err
	}
	if c.Has("targetstorage") && !c.Has("migratedfrom") {
		return wording("400 Parameter verification failed.\ntargetstorage: targetstorage can only by used with migratedfrom.")
	}
	if left, err := p.leftToHA(c, vmidOf(c), "start", startByHA(ctx, vmidOf(c))); left || err != nil {
		return err
	}
	return p.do(ctx, c, verbs.Start, vmidOf(c), parameters(c))
}

func (p Place) stop(ctx context.Context, c *cli.Call) error {
	if from := c.Value("migratedfrom"); from == "" || from == p.Node {
		if err := p.meets(ctx, c, verbs.Stop, unlocked); err != nil {
			return err
		}
		if left, err := p.leftToHA(c, vmidOf(c), "stop", stopByHA(ctx, vmidOf(c), 0)); left || err != nil {
			return err
		}
	}
	return p.do(ctx, c, verbs.Stop, vmidOf(c), parameters(c))
}

// shutdownByHA is how many seconds a guest of HA's has to switch off, unless told.
const shutdownByHA = 60

func (p Place) shutdown(ctx context.Context, c *cli.Call) error {
	if err := p.meets(ctx, c, verbs.Shutdown, unlocked); err != nil {
		return err
	}
	seconds := int(timeout(c, shutdownByHA*time.Second) / time.Second)
	if left, err := p.leftToHA(c, vmidOf(c), "stop", stopByHA(ctx, vmidOf(c), seconds)); left || err != nil {
		return err
	}
	return p.do(ctx, c, verbs.Shutdown, vmidOf(c), parameters(c))
}

func (p Place) resume(ctx context.Context, c *cli.Call) error {
	err := p.meets(ctx, c, verbs.Resume, running)
	var absent *cli.Coded
	if err != nil && !(c.Bool("nocheck") && errors.As(err, &absent)) {
		return err
	}
	return p.do(ctx, c, verbs.Resume, vmidOf(c), parameters(c))
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
			return wording("got timeout")
		}
	}
	return nil
}
