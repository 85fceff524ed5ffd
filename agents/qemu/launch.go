package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/qemu/backend"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/firmware"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/pages"
	"etcpve/agents/qemu/qdev"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/state"
)

// start brings a VM up: QEMU with its CPUs halted, then what can only be set
// through QMP, and last of all the CPUs.
func (a *Agent) start(ctx context.Context, vmid uint32, action Action) error {
	d := action.Desired
	if d.Config.Bool("template", false) {
		return &cmdline.KeyError{Key: "template", Err: errors.New("a template is not started")}
	}
	if err := a.foreign(vmid); err != nil {
		return err
	}
	from, _, err := a.resumption(d)
	if err != nil {
		return err
	}
	if from.Waits() {
		d = onlyMain(d)
	}
	command, err := a.raise(ctx, vmid, action, d, from, func() error { return a.before(ctx, vmid, d, from.Waits()) })
	if err != nil {
		return err
	}
	if err := errors.Join(a.settle(d), a.cloud(vmid).Note(d.Config), a.shareAtStart(ctx, vmid, d.Config)); err != nil {
		return a.failStart(ctx, vmid, action, err)
	}
	for _, tap := range command.Taps {
		if err := a.Ports.Plug(ctx, tap); err != nil {
			return a.failStart(ctx, vmid, action, &cmdline.KeyError{Key: tap.Key, Err: err})
		}
	}
	if from.Waits() {
		if err := a.loadState(ctx, vmid, from); err != nil {
			return a.failStart(ctx, vmid, action, err)
		}
	}
	if d.Power == Paused || d.Config.Bool("freeze", false) {
		if err := a.prepare(ctx, vmid, d); err != nil {
			return err
		}
		return a.started(ctx, vmid)
	}
	return a.resume(ctx, vmid, action)
}

// raise starts the QEMU of a VM, with nothing in it running, and remembers it.
func (a *Agent) raise(ctx context.Context, vmid uint32, action Action, d Desired, from state.Resumption, before func() error) (cmdline.Command, error) {
	command, accel, err := a.build(ctx, vmid, d, from)
	if err != nil {
		return command, err
	}
	if err := a.reap(ctx, vmid, action); err != nil { // what a crash left behind
		return command, err
	}
	if err := before(); err != nil {
		return command, err
	}
	rec := record.Record{Config: d.Config, Accel: accel, Warnings: command.Warnings, PageKiB: command.Pages.KiB}
	if rec.Pages, err = pages.Reserve(command.Pages); err != nil {
		return command, &cmdline.KeyError{Key: "hugepages", Err: err}
	}
	// Written first, so that whatever ends this agent now, the next one finds its VM.
	if err := a.records().Save(vmid, rec); err != nil {
		return command, err
	}
	if rec.Process, err = a.launch(ctx, vmid, command, d); err != nil {
		return command, a.failStart(ctx, vmid, action, err)
	}
	return command, a.records().Save(vmid, rec)
}

// before does what has to be done while the VM is off.
func (a *Agent) before(ctx context.Context, vmid uint32, d Desired, resumes bool) error {
	if err := a.hook(ctx, vmid, d.Config, preStart); err != nil || resumes { // a saved state has its drives open
		return err
	}
	return a.cloud(vmid).Fill(ctx, d.Config)
}

// build makes the command line of a VM that boots, or goes on from a state.
func (a *Agent) build(ctx context.Context, vmid uint32, d Desired, from state.Resumption) (command cmdline.Command, accel string, err error) {
	facts, accel, err := a.hostFor(ctx, d.Config)
	if err != nil {
		return command, "", err
	}
	command, err = cmdline.Build(a.guestOf(ctx, vmid, from.On(d.Config)), facts)
	command.Args = from.Arguments(command.Args)
	return command, accel, err
}

// failStart ends a QEMU that came up but cannot be what it should be.
func (a *Agent) failStart(ctx context.Context, vmid uint32, action Action, err error) error {
	return errors.Join(err, a.reap(ctx, vmid, action))
}

// guestOf binds a configuration to the node's volumes.
func (a *Agent) guestOf(ctx context.Context, vmid uint32, c cmdline.Config) cmdline.Guest {
	return cmdline.Guest{VMID: vmid, Config: c, Volume: func(id string) (cmdline.Volume, error) {
		return a.Volumes.Resolve(ctx, id)
	}}
}

// launch starts QEMU as a daemon. Its first process ends when the machine is
// made, or with what is wrong on its error output.
func (a *Agent) launch(ctx context.Context, vmid uint32, command cmdline.Command, d Desired) (p host.Process, err error) {
	if err := a.surroundings(ctx, vmid, command); err != nil {
		return p, err
	}
	log := cmdline.RunFile(a.RunDir, vmid, "log")
	// What is in the log from here on is of this start.
	if err := os.Rename(log, cmdline.RunFile(a.RunDir, vmid, "last.log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return p, err
	}
	// With -D the daemon keeps its error output, which is the same file.
	argv := append([]string{command.Binary}, command.Args...)
	argv = append(argv, "-S", "-daemonize", "-D", log)
	if command.CPUs != "" {
		argv = append([]string{"taskset", "--cpu-list", command.CPUs}, argv...)
	}
	started, err := a.system.Start(host.Command{Argv: argv}, log)
	if err != nil {
		return p, err
	}
	if err := started.Wait(); err != nil {
		return p, a.blameKey(d, fmt.Errorf("start: %s: %w", a.lastLog(vmid), err))
	}
	content, err := os.ReadFile(cmdline.RunFile(a.RunDir, vmid, "pid"))
	if err != nil {
		return p, fmt.Errorf("start: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return p, fmt.Errorf("start: pid file: %w", err)
	}
	return host.Proc.Find(pid)
}

// blameKey names the key whose device QEMU complains about, if it can be told.
func (a *Agent) blameKey(d Desired, err error) error {
	for key := range d.Config {
		for _, sign := range []string{"id=" + key + ",", "id=" + key + ":", cmdline.NodeName(key) + "\""} {
			if strings.Contains(err.Error(), sign) {
				return &cmdline.KeyError{Key: key, Err: err}
			}
		}
	}
	return err
}

// prepare sets what has no place on the command line. It may be repeated.
func (a *Agent) prepare(ctx context.Context, vmid uint32, d Desired) error {
	r, ok, err := a.records().Load(vmid)
	if err != nil || !ok || r.Begun {
		return err
	}
	m := a.machine(vmid, d.Config)
	for _, key := range r.Config.DriveKeys() {
		if err := m.Throttle(ctx, r.Config, key); err != nil {
			return err
		}
	}
	for key := range r.Config {
		if _, nic := cmdline.Index(key, "net"); nic {
			if err := m.Link(ctx, r.Config, key, false); err != nil {
				return err
			}
		}
	}
	memory, err := r.Config.MemoryMB()
	if err != nil || r.Config["balloon"] == "0" {
		return err
	}
	if want := hotplug.BalloonMB(r.Config, memory); want != memory {
		if err := m.Balloon(ctx, want); err != nil {
			return err
		}
		return a.records().Update(vmid, func(r *record.Record) { r.Balloon = want })
	}
	return nil
}

// overlay makes the image that takes what a drive with snapshot=1 writes.
func (a *Agent) overlay(ctx context.Context, o cmdline.Overlay) error {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(o.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	base := o.Base.Path
	if o.Base.Protocol != nil {
		base = "json:" + qdev.JSON(o.Base.Protocol)
	}
	argv := []string{"qemu-img", "create", "-q", "-f", "qcow2", "-F", o.Base.Format, "-b", base, o.Path}
	_, err := a.system.Run(ctx, host.Command{Argv: argv})
	return err
}

// surroundings makes what QEMU expects to find when it starts.
func (a *Agent) surroundings(ctx context.Context, vmid uint32, command cmdline.Command) error {
	for _, c := range command.Copies {
		if err := firmware.Fill(ctx, a.system, c.From, c.To, a.RunDir); err != nil {
			return &cmdline.KeyError{Key: "efidisk0", Err: err}
		}
	}
	for _, o := range command.Overlays {
		if err := a.overlay(ctx, o); err != nil {
			return err
		}
	}
	if command.TPM != nil {
		log := cmdline.RunFile(a.RunDir, vmid, "swtpm.log")
		if err := backend.TPM(ctx, a.system, *command.TPM, log); err != nil {
			return &cmdline.KeyError{Key: "tpmstate0", Err: err}
		}
	}
	for _, s := range command.Shares {
		if err := backend.Share(ctx, s, cmdline.RunFile(a.RunDir, vmid, "virtiofsd.log")); err != nil {
			return &cmdline.KeyError{Key: s.Key, Err: err}
		}
	}
	return nil
}
