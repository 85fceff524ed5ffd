// Package place is where the verbs of a VM do their work: its configuration,
// its power file, its process and its monitor, all by VMID.
//
// It owns how they are reached: a configuration is changed under the node's lock
// of the guest and in one commit, a monitor is held no longer than a
// conversation takes. It never decides anything about a VM and starts none: that
// is the agent's.
package place

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/record"
	"etcpve/agents/storage"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// A Place is one node's VMs. All fields are required; Catalog runs the commands.
type Place struct {
	Tree    string // the cluster file system
	Node    string // the local node
	RunDir  string // of the node's VMs
	Locks   string // of the node's guests
	Catalog storage.Catalog
	Log     *slog.Logger
}

// Waits.
const (
	lockWait    = 10 * time.Second // for another program's lock on the guest
	monitorWait = 30 * time.Second // for a monitor that another client holds
	commandWait = 30 * time.Second // for the answer to one command
)

// VMID reads the ID of a task.
func VMID(id string) (uint32, error) {
	vmid, ok := layout.ParseVMID(id)
	if !ok {
		return 0, fmt.Errorf("id: %q is not a VMID", id)
	}
	return vmid, nil
}

// Path returns the place of a VM's configuration, relative to the tree.
func (p Place) Path(vmid uint32) string {
	return layout.Guest{VMID: vmid, Node: p.Node, Kind: layout.QEMU}.Path()
}

// Find returns the guest of a VMID, wherever in the cluster it is.
func (p Place) Find(ctx context.Context, vmid uint32) (g layout.Guest, ok bool, err error) {
	all, err := p.Configurations(ctx)
	for _, path := range all {
		if g, ok := layout.GuestOf(path); ok && g.VMID == vmid {
			return g, true, nil
		}
	}
	return g, false, err
}

// absent says that a configuration is not there, in the words that users know.
type absent string

func (path absent) Error() string { return "Configuration file '" + string(path) + "' does not exist" }

// Is makes it an os.ErrNotExist.
func (path absent) Is(other error) bool { return other == os.ErrNotExist }

// Load reads the configuration of a VM.
func (p Place) Load(ctx context.Context, vmid uint32) (*guest.Config, error) {
	content, err := p.Read(ctx, p.Path(vmid))
	if errors.Is(err, os.ErrNotExist) && !p.away(err) {
		return nil, absent(p.Path(vmid))
	}
	if err != nil {
		return nil, fmt.Errorf("vm %d: %w", vmid, err)
	}
	c, problems := guest.Parse(layout.QEMU, vmid, string(content))
	for _, problem := range problems {
		if !problem.Unknown {
			return nil, fmt.Errorf("%s:%d: %s", p.Path(vmid), problem.Place.Line, strings.TrimSpace(problem.Error()))
		}
	}
	return c, nil
}

// Edit changes a configuration in one commit, while nobody else on this node
// does. Lines that do not change stay as they are.
func (p Place) Edit(ctx context.Context, vmid uint32, change func(*guest.Config) error) error {
	return p.EditWith(ctx, vmid, change, nil)
}

// EditWith is Edit with a step that has to happen under the same lock, after
// the configuration was saved.
func (p Place) EditWith(ctx context.Context, vmid uint32, change func(*guest.Config) error, then func() error) error {
	unlock, err := p.lock(ctx, vmid)
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	defer unlock()
	c, err := p.Load(ctx, vmid)
	if err != nil {
		return err
	}
	content, err := p.Read(ctx, p.Path(vmid))
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	if guest.Digest(string(content)) != c.Digest {
		return fmt.Errorf("vm %d: configuration was changed meanwhile", vmid)
	}
	if err := change(c); err != nil {
		return err
	}
	if updated := guest.Update(string(content), c); updated != string(content) {
		if err := p.Write(ctx, p.Path(vmid), updated); err != nil {
			return fmt.Errorf("vm %d: %w", vmid, err)
		}
	}
	if then == nil {
		return nil
	}
	return then()
}

// Create writes the configuration of a new VM; a VMID that exists is refused.
func (p Place) Create(ctx context.Context, c *guest.Config) error {
	g, ok, err := p.Find(ctx, c.VMID)
	if ok {
		return fmt.Errorf("unable to create VM %d - VM %d already exists on node '%s'", c.VMID, c.VMID, g.Node)
	}
	if err == nil {
		err = p.make(ctx, p.Path(c.VMID), c.Text())
	}
	if err != nil {
		return fmt.Errorf("unable to create VM %d - %w", c.VMID, err)
	}
	return nil
}

// lock takes the lock that PVE's tools, and the agent, take before they touch a guest.
func (p Place) lock(ctx context.Context, vmid uint32) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	path := filepath.Join(p.Locks, fmt.Sprintf("lock-%d.conf", vmid))
	unlock, err = host.Flock(ctx, path)
	if errors.Is(err, host.ErrLocked) {
		err = fmt.Errorf("can't lock file '%s' - got timeout", path)
	}
	return unlock, err
}

// Record returns what the agent remembers of a VM it started; ok is false if
// there is nothing.
func (p Place) Record(vmid uint32) (r record.Record, ok bool, err error) {
	return record.Dir(p.RunDir).Load(vmid)
}

// Adopt notes what of a running VM is in effect since a verb changed it, so
// that the agent does not change it once more. The caller holds the lock, as
// the last step of EditWith does.
func (p Place) Adopt(vmid uint32, values map[string]string) error {
	return p.note(vmid, func(r *record.Record) {
		for key, value := range values {
			if value == "" {
				delete(r.Config, key)
			} else {
				r.Config[key] = value
			}
			r.Moving = without(r.Moving, key)
		}
	})
}

// Hold keeps the agent from changing a disk of a running VM until Adopt or
// Release, also when the task that asks for it dies meanwhile: until its repair
// has looked, nobody knows which volume QEMU uses. The caller holds the lock.
func (p Place) Hold(vmid uint32, key string) error {
	return p.note(vmid, func(r *record.Record) { r.Moving = append(without(r.Moving, key), key) })
}

// Release takes a Hold back.
func (p Place) Release(ctx context.Context, vmid uint32, key string) error {
	unlock, err := p.lock(ctx, vmid)
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	defer unlock()
	return p.note(vmid, func(r *record.Record) { r.Moving = without(r.Moving, key) })
}

func without(keys []string, key string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return k == key })
}

// note changes what is remembered of a VM, if anything is.
func (p Place) note(vmid uint32, change func(*record.Record)) error {
	if _, ok, err := p.Record(vmid); err != nil || !ok {
		return err
	}
	return record.Dir(p.RunDir).Update(vmid, change)
}

// Process returns the QEMU of a VM; ok is false if none runs.
func (p Place) Process(vmid uint32) (process host.Process, ok bool, err error) {
	r, known, err := p.Record(vmid)
	if err != nil || !known || r.Process.PID == 0 {
		return host.Process{}, false, err
	}
	return r.Process, host.Proc.Alive(r.Process), nil
}

// Running reports whether a VM runs, paused or not.
func (p Place) Running(_ context.Context, vmid uint32) (bool, error) {
	_, ok, err := p.Process(vmid)
	return ok, err
}

// QMP holds a conversation with a VM's QEMU.
func (p Place) QMP(ctx context.Context, vmid uint32, talk func(*monitor.Monitor) error) error {
	dial, cancel := context.WithTimeout(ctx, monitorWait)
	defer cancel()
	m, err := monitor.Dial(dial, cmdline.RunFile(p.RunDir, vmid, "qmp"))
	for err != nil && dial.Err() == nil {
		if running, e := p.Running(ctx, vmid); e != nil || !running {
			return errors.Join(fmt.Errorf("VM %d not running", vmid), e)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-dial.Done():
		}
		m, err = monitor.Dial(dial, cmdline.RunFile(p.RunDir, vmid, "qmp"))
	}
	if err != nil {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	defer m.Close()
	return talk(m)
}

// Command runs one QMP command against a VM.
func (p Place) Command(ctx context.Context, vmid uint32, command string, args map[string]any, result any) error {
	return p.QMP(ctx, vmid, func(m *monitor.Monitor) error {
		ctx, cancel := context.WithTimeout(ctx, commandWait)
		defer cancel()
		if args == nil {
			return m.Run(ctx, command, nil, result)
		}
		return m.Run(ctx, command, args, result)
	})
}

// Status returns QEMU's word for what a VM does, "stopped" if it does not run.
func (p Place) Status(ctx context.Context, vmid uint32) (string, error) {
	running, err := p.Running(ctx, vmid)
	if err != nil || !running {
		return "stopped", err
	}
	var status struct{ Status string }
	err = p.Command(ctx, vmid, "query-status", nil, &status)
	return status.Status, err
}

// Power says what a VM shall do.
func (p Place) Power(ctx context.Context, vmid uint32, power qemu.Power) error {
	path := layout.PowerDir + "/" + strconv.FormatUint(uint64(vmid), 10)
	if err := p.Write(ctx, path, string(power)+"\n"); err != nil {
		return fmt.Errorf("vm %d: power: %w", vmid, err)
	}
	return nil
}
