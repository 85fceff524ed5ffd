// Package job is one task of a VM while it is done: its parameters, its log, and
// the volumes that it makes.
//
// It owns how a task looks at its VM (not locked, running, unchanged since), how
// the volumes come about that a setting asks for, and the notes in the task's
// file of what is being made, by which a repair finds what a crash left. It
// knows no verb.
package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/place"
	"etcpve/agents/task"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A Job is one task with the VM it is about.
type Job struct {
	place.Place
	VMID   uint32
	Params map[string]string
	Log    *task.Log
}

// Text returns a parameter, or "".
func (j Job) Text(name string) string { return j.Params[name] }

// Truth returns a parameter that is a truth value, false if it is not given.
func (j Job) Truth(name string) bool {
	truth, _ := schema.Bool(j.Params[name])
	return truth
}

// Seconds reads a time-out.
func (j Job) Seconds(name string, otherwise time.Duration) time.Duration {
	if n, err := strconv.Atoi(j.Params[name]); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	return otherwise
}

// List reads a parameter that is a list.
func (j Job) List(name string) []string { return schema.SplitList(j.Text(name)) }

// Unlocked reads the configuration of a VM that is not locked, or whose lock is to
// be ignored.
func (j Job) Unlocked(ctx context.Context) (*config.Config, error) {
	c, err := j.Load(ctx, j.VMID)
	if err == nil && !j.Truth("skiplock") {
		err = guest.CheckLock(c)
	}
	return c, err
}

// Live returns the configuration of a VM that runs and is not locked.
func (j Job) Live(ctx context.Context) (*config.Config, error) {
	c, err := j.Unlocked(ctx)
	if err != nil {
		return nil, err
	}
	running, err := j.Running(ctx, j.VMID)
	if err == nil && !running {
		err = fmt.Errorf("VM %d not running", j.VMID)
	}
	return c, err
}

// Fresh refuses a configuration that somebody else has saved since.
func (j Job) Fresh(c *config.Config) error {
	if digest := j.Text("digest"); digest != "" && digest != c.Digest {
		return ErrModified
	}
	return nil
}

// A Wording is an error in the words that users and scripts know.
type Wording string

func (w Wording) Error() string { return string(w) }

// ErrModified refuses what was decided on an older configuration.
const ErrModified = Wording("detected modified configuration - file changed by other user? Try again.")

// Become writes the power file and waits until the VM is as wanted.
func (j Job) Become(ctx context.Context, power qemu.Power, limit time.Duration, wanted string) (err error) {
	if j.Truth("skiplock") {
		undo, err := j.SkipLock(j.VMID, limit)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	since, err := j.Begin(ctx, j.VMID, power)
	if err != nil {
		return err
	}
	return j.Await(ctx, j.VMID, since, limit, func(status string) bool { return status == wanted })
}

// CheckText refuses what the file system would refuse, with its place.
func CheckText(c *config.Config) error {
	refusals, _ := config.Check(layout.QEMU, c.VMID, c.Text())
	var errs []error
	for _, r := range refusals {
		errs = append(errs, r)
	}
	return errors.Join(errs...)
}

// Gone forgives a VM that is not there: nothing of it can be repaired.
func Gone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
