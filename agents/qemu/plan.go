package qemu

import (
	"fmt"
	"time"

	"etcpve/agents/qemu/hotplug"
)

// A Step is a kind of action.
type Step string

// The steps of a VM's life.
const (
	Start    Step = "start"
	Shutdown Step = "shut down"
	Kill     Step = "kill"
	Pause    Step = "pause"
	Resume   Step = "resume"
	WriteOff Step = "write power: stopped"
	Reap     Step = "clean up"
	Blame    Step = "record crash"
	Change   Step = "change"
)

// An Action is one step of one VM.
type Action struct {
	Step    Step
	Desired Desired        // what it is a step towards
	Change  hotplug.Action // of a Change
	Reason  string
}

// String is the action as it is printed and logged.
func (a Action) String() string {
	switch {
	case a.Step == Change:
		return a.Change.String()
	case a.Reason != "":
		return fmt.Sprintf("%s: %s", a.Step, a.Reason)
	}
	return string(a.Step)
}

// plan compares what is asked with what is there. It is pure.
func plan(d Desired, s State) (actions []Action, pending []hotplug.Pending) {
	step := func(step Step, reason string) {
		actions = append(actions, Action{Step: step, Desired: d, Reason: reason})
	}
	switch {
	case s.Status == "shutdown" || !s.alive() && s.Known && s.Ended != "":
		planEnd(d, s, step)
	case !s.alive() && s.Known && s.Record.Process.PID != 0 && s.Record.Crash == "" && wanted(d.Power) && s.Record.Stopping.IsZero():
		step(Blame, "QEMU is gone")
	case !s.alive():
		planStopped(d, s, step)
		return actions, pendingOf(d, s)
	case d.Text == nil || d.Power == Stopped:
		planStop(d, s, step)
		if d.Text != nil {
			return actions, []hotplug.Pending{{Key: "power", Reason: "waits for the guest to switch off"}}
		}
	default:
		planRun(d, s, step)
	}
	if s.Status == "" || s.Status == "shutdown" || d.Text == nil || len(actions) > 0 {
		return actions, nil
	}
	changed, pending := changes(d, s)
	if lock := d.Config["lock"]; lock != "" {
		return nil, heldBack(changed, pending, lock)
	}
	for _, c := range changed {
		actions = append(actions, Action{Step: Change, Desired: d, Change: c})
	}
	return actions, pending
}

// heldBack makes changes wait for the end of a lock.
func heldBack(changed []hotplug.Action, pending []hotplug.Pending, lock string) []hotplug.Pending {
	for _, c := range changed {
		if c.Do != hotplug.Adopt {
			pending = append(pending, hotplug.Pending{Key: c.Key, Reason: "VM is locked (" + lock + ")"})
		}
	}
	return pending
}

// asked reports whether the guest switches off because this agent wanted it to.
// That it did not obey in time counts as forgotten.
func (s State) asked(d Desired) bool {
	t := s.Record.Stopping
	return !t.IsZero() && s.Now.Before(t.Add(downTime(d.Config)+time.Minute))
}

func wanted(p Power) bool { return p == Running || p == Paused }

// planEnd is for a guest that has switched off: of itself, which its power file
// has to say then, or as it was asked to.
func planEnd(d Desired, s State, step func(Step, string)) {
	if d.Text != nil && wanted(d.Power) && !s.asked(d) {
		step(WriteOff, "the guest has switched itself off")
	}
	step(Reap, "")
}

// planStopped is for a VM that does not run.
func planStopped(d Desired, s State, step func(Step, string)) {
	crashed := s.Record.Crash != ""
	_, unmade := hotplug.Unmade(d.Config)
	switch {
	case d.Text != nil && wanted(d.Power) && !unmade && mayStart(d) && !(crashed && s.Record.Mark == d.Mark):
		step(Start, "")
	case s.Known && !(crashed && wanted(d.Power)):
		step(Reap, "")
	}
}

// pendingOf says why a VM that should run does not.
func pendingOf(d Desired, s State) []hotplug.Pending {
	switch {
	case d.Text == nil || !wanted(d.Power):
		return nil
	case s.Record.Crash != "" && s.Record.Mark == d.Mark:
		return []hotplug.Pending{{Key: "power", Reason: "the guest crashed; write power or configuration to start it again"}}
	case !mayStart(d):
		return []hotplug.Pending{{Key: "power", Reason: "VM is locked (" + d.Config["lock"] + ")"}}
	}
	if unmade, ok := hotplug.Unmade(d.Config); ok {
		return []hotplug.Pending{unmade}
	}
	return nil
}

// pressAgain is how long after a press of the power button the next one
// follows: a guest that boots has nobody yet to see the first.
const pressAgain = 10 * time.Second

// planStop is for a running VM that should not run. One without a
// configuration is left alone: its disks may be in use elsewhere by now, or the
// file may have been removed by mistake, and either is for a person to decide.
func planStop(d Desired, s State, step func(Step, string)) {
	switch asked := s.Record.Stopping; {
	case d.Text == nil || d.locked():
	case s.Silent != "" || s.Status == "prelaunch":
		step(Kill, "it cannot be asked to switch off")
	case !d.Config.Bool("acpi", true):
		step(Kill, "the guest has no ACPI")
	case asked.IsZero():
		if s.Status == "paused" {
			step(Resume, "to switch off")
		}
		step(Shutdown, "")
	case !s.Now.Before(asked.Add(downTime(d.Config))):
		step(Kill, fmt.Sprintf("it did not switch off within %s", downTime(d.Config)))
	case !s.Now.Before(s.Record.Pressed.Add(pressAgain)):
		step(Shutdown, "once more")
	}
}

// planRun is for a running VM that should run, or be paused.
func planRun(d Desired, s State, step func(Step, string)) {
	switch {
	case s.Silent != "" || !mayStart(d): // whoever holds the lock may have stopped it
	case d.Power == Paused && s.Status == "running":
		step(Pause, "")
	case d.Power == Running && s.Status == "paused":
		step(Resume, "")
	case s.Status == "inmigrate":
		step(Kill, "its state was not loaded")
	case d.Power == Running && s.Status == "prelaunch" && !d.Config.Bool("freeze", false):
		step(Resume, "")
	}
}
