// Package plug carries changes of the hardware out on a running VM.
//
// It owns the order of QMP commands that a change takes and how they are taken
// back when one fails. Every change may be repeated: what an agent before this
// one did already is found and kept. The package never decides what to change,
// and never remembers what is in effect.
package plug

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/monitor"
)

// releaseWait is how long an unplug is waited for before it becomes pending:
// a guest releases a PCI device when it gets to it, or never.
const releaseWait = 3 * time.Second

// Ports connects the node's side of NICs to bridges.
type Ports interface {
	// Plug connects a tap as it says, wherever it was before.
	Plug(ctx context.Context, tap cmdline.Tap) error
	// Unplug removes what Plug made for a tap, which may be gone.
	Unplug(ctx context.Context, tap string) error
}

// A Machine is a running VM.
type Machine struct {
	VMID uint32
	// QMP runs one command.
	QMP func(ctx context.Context, command string, args, result any) error
	// With is the VM as it runs but for one key, which is as desired, on its
	// host: what is plugged in has to fit the machine as it was started.
	With func(ctx context.Context, key string) (cmdline.Guest, cmdline.Host, error)
	// Release notes that the guest was asked for a device and has not given it up.
	Release func(id string)
	// CloudInit prepares what the cloud-init drive is to hold, and changes nothing;
	// put writes it, while QEMU has the drive closed. The setting is that of the
	// drive QEMU has.
	CloudInit func(ctx context.Context, key, setting string) (put func() error, err error)
	// Share gives QEMU its share of the node's CPUs.
	Share func(ctx context.Context, config cmdline.Config) error
	Ports Ports
	Log   *slog.Logger
}

// Apply carries one change out. It is not done yet if the guest still holds the
// device.
func (m Machine) Apply(ctx context.Context, c hotplug.Action) (done bool, err error) {
	verbs := map[hotplug.Verb]func(context.Context, hotplug.Action) (bool, error){
		hotplug.PlugDisk: m.plugDisk, hotplug.UnplugDisk: m.unplugDisk, hotplug.PlugNIC: m.plugNIC, hotplug.UnplugNIC: m.unplugNIC,
		hotplug.Throttle: m.changeThrottle, hotplug.Medium: m.changeMedium, hotplug.Balloon: m.changeBalloon,
		hotplug.Link: m.changeLink, hotplug.Port: m.changePort, hotplug.Adopt: adopt,
		hotplug.CPUs: m.changeCPUs, hotplug.Memory: m.changeMemory,
		hotplug.PlugUSB: m.plugUSB, hotplug.UnplugUSB: m.unplugUSB, hotplug.Tablet: m.changeTablet,
		hotplug.Boot: m.changeBoot, hotplug.CloudInit: m.changeCloudInit, hotplug.Shares: m.changeShare,
	}
	return verbs[c.Do](ctx, c)
}

func adopt(context.Context, hotplug.Action) (bool, error) { return true, nil }

// try runs a command that QEMU may refuse.
func (m Machine) try(ctx context.Context, command string, args map[string]any) error {
	if err := m.QMP(ctx, command, args, nil); refused(err) == nil {
		return err
	}
	return nil
}

// refused returns QEMU's refusal of a command, if that is what err is.
func refused(err error) *monitor.Error {
	var e *monitor.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// unplug asks the guest to release a device and reports whether it has.
func (m Machine) unplug(ctx context.Context, id string) (gone bool, err error) {
	err = m.QMP(ctx, "device_del", map[string]any{"id": id}, nil)
	if e := refused(err); e != nil && e.Class == "DeviceNotFound" {
		return true, nil
	} else if err != nil && e == nil {
		return false, err
	}
	// Any other refusal says that the guest was asked before.
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	late := time.After(releaseWait)
	for {
		devices, e := m.devices(ctx)
		if e != nil {
			return false, e
		}
		if !devices[id] {
			return true, nil
		}
		select {
		case <-poll.C:
		case <-late:
			m.Release(id)
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (m Machine) devices(ctx context.Context) (map[string]bool, error) { return Devices(ctx, m.QMP) }

// Devices lists the devices of a VM that have an identifier.
func Devices(ctx context.Context, qmp func(ctx context.Context, command string, args, result any) error) (map[string]bool, error) {
	var children []struct{ Name string }
	if err := qmp(ctx, "qom-list", map[string]any{"path": "/machine/peripheral"}, &children); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, c := range children {
		ids[c.Name] = true
	}
	return ids, nil
}

// A command is a QMP command with its arguments.
type command struct {
	name string
	args map[string]any
}

// An undoer runs commands until one fails, and can take the others back.
type undoer struct {
	Machine
	done []command // those that undo, in the order of what they undo
	err  error
}

func (u *undoer) run(ctx context.Context, name string, args map[string]any, undo string, undoArgs map[string]any) {
	if u.err != nil {
		return
	}
	if u.err = u.QMP(ctx, name, args, nil); u.err == nil {
		u.done = append(u.done, command{undo, undoArgs})
	}
}

// also does a step that needs no undoing, if all went well so far.
func (u *undoer) also(step func() error) {
	if u.err == nil {
		u.err = step()
	}
}

// back undoes what was done, last first, if something failed, and returns the failure.
func (u *undoer) back(ctx context.Context) error {
	if u.err == nil {
		return nil
	}
	for i := len(u.done) - 1; i >= 0; i-- {
		if err := u.QMP(ctx, u.done[i].name, u.done[i].args, nil); err != nil {
			u.Log.Warn("not undone", "vmid", u.VMID, "command", u.done[i].name, "err", err)
		}
	}
	return u.err
}

// byID are the arguments of the many commands that want only an identifier.
func byID(format string, args ...any) map[string]any {
	return map[string]any{"id": fmt.Sprintf(format, args...)}
}
