package qemu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/qdev"
	"etcpve/agents/qemu/throttle"
)

// releaseWait is how long an unplug is waited for before it becomes pending:
// a guest releases a PCI device when it gets to it, or never.
const releaseWait = 3 * time.Second

// change applies one change to a running VM and notes it in its record.
func (a *Agent) change(ctx context.Context, vmid uint32, action Action) error {
	c := action.Change
	verbs := map[hotplug.Verb]func(context.Context, uint32, cmdline.Config, hotplug.Action) (done bool, err error){
		hotplug.PlugDisk: a.plugDisk, hotplug.UnplugDisk: a.unplugDisk, hotplug.PlugNIC: a.plugNIC, hotplug.UnplugNIC: a.unplugNIC,
		hotplug.Throttle: a.changeThrottle, hotplug.Medium: a.changeMedium, hotplug.Balloon: a.changeBalloon,
		hotplug.Link: a.changeLink, hotplug.Port: a.changePort, hotplug.Adopt: adopt,
		hotplug.CPUs: a.changeCPUs, hotplug.Memory: a.growMemory,
	}
	done, err := verbs[c.Do](ctx, vmid, action.Desired.Config, c)
	if err != nil {
		return &cmdline.KeyError{Key: c.Key, Err: fmt.Errorf("%s: %w", c, err)}
	}
	if !done {
		return nil
	}
	return a.update(vmid, func(r *Record) {
		if c.Value == "" {
			delete(r.Config, c.Key)
		} else {
			r.Config[c.Key] = c.Value
		}
	})
}

func adopt(context.Context, uint32, cmdline.Config, hotplug.Action) (bool, error) { return true, nil }

// inEffect is a running VM with one key as desired, on this host: what is
// plugged in has to fit the machine as it was started.
func (a *Agent) inEffect(ctx context.Context, vmid uint32, desired cmdline.Config, key string) (g cmdline.Guest, h cmdline.Host, err error) {
	r, ok, err := a.load(vmid)
	if err = errors.Join(err, notThere(vmid, ok)); err != nil {
		return g, h, err
	}
	config := maps.Clone(r.Config)
	config[key] = desired[key]
	h, _, err = a.hostFor(ctx, config)
	return a.guestOf(ctx, vmid, config), h, err
}

func (a *Agent) plugDisk(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	d, err := cmdline.DriveOf(g, facts, c.Key)
	if err != nil {
		return false, err
	}
	devices, err := a.devices(ctx, vmid)
	if err != nil {
		return false, err
	}
	if devices[c.Key] { // an agent before this one came no further
		return true, a.throttle(ctx, vmid, g.Config, c.Key)
	}
	if err := a.clearDisk(ctx, vmid, c.Key); err != nil {
		return false, err
	}
	undo := undoer{agent: a, vmid: vmid}
	if d.IOThread != "" {
		undo.run(ctx, "object-add", map[string]any{"qom-type": "iothread", "id": d.IOThread}, "object-del", map[string]any{"id": d.IOThread})
	}
	if d.Blockdev != nil {
		group := throttle.GroupName(c.Key)
		undo.run(ctx, "object-add", d.Limit.Object(), "object-del", map[string]any{"id": group})
		undo.run(ctx, "blockdev-add", d.Blockdev, "blockdev-del", map[string]any{"node-name": cmdline.NodeName(c.Key)})
	}
	if id := d.Controller.ID(); id != "" && !devices[id] {
		undo.run(ctx, "device_add", d.Controller.Arguments(), "device_del", map[string]any{"id": id})
	}
	undo.run(ctx, "device_add", d.Device.Arguments(), "device_del", map[string]any{"id": c.Key})
	if undo.err == nil {
		undo.err = a.throttle(ctx, vmid, g.Config, c.Key)
	}
	return undo.err == nil, undo.back(ctx)
}

// unplugDisk takes a disk away once the guest has released it, with everything
// that was made for it. The shared controllers stay.
func (a *Agent) unplugDisk(ctx context.Context, vmid uint32, _ cmdline.Config, c hotplug.Action) (bool, error) {
	if gone, err := a.unplug(ctx, vmid, c.Key); err != nil || !gone {
		return false, err
	}
	if err := a.clearDisk(ctx, vmid, c.Key); err != nil {
		return false, err
	}
	return true, a.unplugOwn(ctx, vmid, c.Key)
}

// clearDisk removes what a disk leaves behind, where it is there.
func (a *Agent) clearDisk(ctx context.Context, vmid uint32, key string) error {
	if err := a.try(ctx, vmid, "blockdev-del", map[string]any{"node-name": cmdline.NodeName(key)}); err != nil {
		return err
	}
	return a.try(ctx, vmid, "object-del", map[string]any{"id": throttle.GroupName(key)})
}

// try runs a command that QEMU may refuse.
func (a *Agent) try(ctx context.Context, vmid uint32, command string, args map[string]any) error {
	if err := a.command(ctx, vmid, command, args, nil); refused(err) == nil {
		return err
	}
	return nil
}

// unplugOwn removes the controller and the thread that only this disk used.
func (a *Agent) unplugOwn(ctx context.Context, vmid uint32, key string) error {
	bus, n, _ := cmdline.DriveBus(key)
	thread := "iothread-" + key
	if bus == "scsi" {
		controller := fmt.Sprintf("virtioscsi%d", n)
		if devices, err := a.devices(ctx, vmid); err != nil || !devices[controller] {
			return err
		}
		thread = "iothread-" + controller
		// A controller the guest holds on to takes the next disk of this number.
		if gone, err := a.unplug(ctx, vmid, controller); err != nil || !gone {
			return err
		}
	}
	return a.try(ctx, vmid, "object-del", map[string]any{"id": thread})
}

// unplug asks the guest to release a device and reports whether it has.
func (a *Agent) unplug(ctx context.Context, vmid uint32, id string) (gone bool, err error) {
	err = a.command(ctx, vmid, "device_del", map[string]any{"id": id}, nil)
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
		devices, e := a.devices(ctx, vmid)
		if e != nil {
			return false, e
		}
		if !devices[id] {
			return true, nil
		}
		select {
		case <-poll.C:
		case <-late:
			a.guest(vmid).release(id)
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (a *Agent) devices(ctx context.Context, vmid uint32) (map[string]bool, error) {
	m, err := a.guest(vmid).connect(ctx)
	if err != nil {
		return nil, err
	}
	return deviceIDs(ctx, m)
}

func (a *Agent) plugNIC(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	n, err := cmdline.NICOf(g, facts, c.Key)
	if err != nil {
		return false, err
	}
	netdev := n.Netdev.Arguments()
	netdev["type"] = netdev["driver"]
	delete(netdev, "driver")
	devices, err := a.devices(ctx, vmid)
	if err != nil || devices[c.Key] { // an agent before this one came no further
		return err == nil, err
	}
	if err := a.try(ctx, vmid, "netdev_del", map[string]any{"id": c.Key}); err != nil {
		return false, err
	}
	undo := undoer{agent: a, vmid: vmid}
	undo.run(ctx, "netdev_add", netdev, "netdev_del", map[string]any{"id": c.Key})
	if undo.err == nil && n.Tap != nil {
		undo.err = a.Ports.Plug(ctx, *n.Tap)
	}
	undo.run(ctx, "device_add", n.Device.Arguments(), "device_del", map[string]any{"id": c.Key})
	if undo.err == nil {
		undo.err = a.setLink(ctx, vmid, g.Config, c.Key, false)
	}
	return undo.err == nil, undo.back(ctx)
}

func (a *Agent) unplugNIC(ctx context.Context, vmid uint32, _ cmdline.Config, c hotplug.Action) (bool, error) {
	if gone, err := a.unplug(ctx, vmid, c.Key); err != nil || !gone {
		return false, err
	}
	err := a.try(ctx, vmid, "netdev_del", map[string]any{"id": c.Key})
	return err == nil, err
}

func (a *Agent) changeThrottle(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	return true, a.throttle(ctx, vmid, desired, c.Key)
}

// throttle limits a drive in both places where QEMU keeps a limit.
func (a *Agent) throttle(ctx context.Context, vmid uint32, config cmdline.Config, key string) error {
	o, err := config.Options(key, "file")
	if err != nil || o["file"] == "none" {
		return err
	}
	limit, err := throttle.Parse(key, o)
	if err != nil {
		return err
	}
	path, limits := limit.Group()
	err = a.command(ctx, vmid, "qom-set", map[string]any{"path": path, "property": "limits", "value": limits}, nil)
	if err != nil {
		return err
	}
	return a.command(ctx, vmid, "block_set_io_throttle", limit.Arguments(), nil)
}

// changeMedium opens the tray, takes the old medium out, puts the new one in
// and closes the tray. A guest may have locked the tray; it is opened anyhow.
func (a *Agent) changeMedium(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	d, err := cmdline.DriveOf(g, facts, c.Key)
	if err != nil {
		return false, err
	}
	drive := map[string]any{"id": c.Key}
	if err := a.command(ctx, vmid, "blockdev-open-tray", map[string]any{"id": c.Key, "force": true}, nil); err != nil {
		return false, err
	}
	if err := a.command(ctx, vmid, "blockdev-remove-medium", drive, nil); err != nil {
		return false, err
	}
	if err := a.clearDisk(ctx, vmid, c.Key); err != nil {
		return false, err
	}
	if d.Blockdev == nil {
		return true, a.command(ctx, vmid, "blockdev-close-tray", drive, nil)
	}
	undo := undoer{agent: a, vmid: vmid}
	undo.run(ctx, "object-add", d.Limit.Object(), "object-del", map[string]any{"id": throttle.GroupName(c.Key)})
	undo.run(ctx, "blockdev-add", d.Blockdev, "blockdev-del", map[string]any{"node-name": cmdline.NodeName(c.Key)})
	undo.run(ctx, "blockdev-insert-medium", map[string]any{"id": c.Key, "node-name": cmdline.NodeName(c.Key)}, "blockdev-remove-medium", drive)
	undo.run(ctx, "blockdev-close-tray", drive, "blockdev-open-tray", drive)
	return undo.err == nil, undo.back(ctx)
}

func (a *Agent) changeBalloon(ctx context.Context, vmid uint32, _ cmdline.Config, c hotplug.Action) (bool, error) {
	return true, a.setBalloon(ctx, vmid, c.MiB)
}

func (a *Agent) setBalloon(ctx context.Context, vmid uint32, mib int) error {
	if err := a.command(ctx, vmid, "balloon", map[string]any{"value": int64(mib) << 20}, nil); err != nil {
		return err
	}
	return a.update(vmid, func(r *Record) { r.Balloon = mib })
}

func (a *Agent) changeLink(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	return true, a.setLink(ctx, vmid, desired, c.Key, true)
}

// setLink pulls the cable out of a NIC or puts it back; a NIC that was just
// made has it in.
func (a *Agent) setLink(ctx context.Context, vmid uint32, config cmdline.Config, key string, always bool) error {
	o, err := cmdline.NICOptions(config, key)
	if err != nil {
		return err
	}
	down := o.Bool("link_down", false)
	if !down && !always {
		return nil
	}
	return a.command(ctx, vmid, "set_link", map[string]any{"name": key, "up": !down}, nil)
}

// changePort moves the node's side of a NIC.
func (a *Agent) changePort(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	n, err := cmdline.NICOf(g, facts, c.Key)
	if err != nil || n.Tap == nil {
		return err == nil, err
	}
	if err := a.Ports.Plug(ctx, *n.Tap); err != nil {
		return false, err
	}
	return true, a.setLink(ctx, vmid, desired, c.Key, true)
}

// changeCPUs plugs the CPUs that are missing, or asks the guest to release the
// last ones.
func (a *Agent) changeCPUs(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	cpus, err := cmdline.CPUsOf(g, facts)
	if err != nil {
		return false, err
	}
	devices, err := a.devices(ctx, vmid)
	if err != nil {
		return false, err
	}
	for _, cpu := range cpus {
		if devices[cpu.ID()] {
			continue
		}
		if err := a.command(ctx, vmid, "device_add", cpu.Arguments(), nil); err != nil {
			return false, err
		}
	}
	for n := len(cpus) + 2; devices[fmt.Sprintf("cpu%d", n)]; n++ {
		if gone, err := a.unplug(ctx, vmid, fmt.Sprintf("cpu%d", n)); err != nil || !gone {
			a.guest(vmid).release(c.Key)
			return false, err
		}
	}
	return true, nil
}

// growMemory plugs the DIMMs that are missing.
func (a *Agent) growMemory(ctx context.Context, vmid uint32, desired cmdline.Config, c hotplug.Action) (bool, error) {
	g, facts, err := a.inEffect(ctx, vmid, desired, c.Key)
	if err != nil {
		return false, err
	}
	dimms, err := cmdline.DIMMsOf(g, facts)
	if err != nil {
		return false, err
	}
	devices, err := a.devices(ctx, vmid)
	if err != nil {
		return false, err
	}
	for _, d := range dimms {
		if devices[d.Device.ID()] {
			continue
		}
		memory := d.Backend.Arguments()
		memory["qom-type"] = memory["driver"]
		delete(memory, "driver")
		memory["size"] = d.Bytes
		if err := a.try(ctx, vmid, "object-del", map[string]any{"id": memory["id"]}); err != nil {
			return false, err
		}
		undo := undoer{agent: a, vmid: vmid}
		undo.run(ctx, "object-add", memory, "object-del", map[string]any{"id": memory["id"]})
		undo.run(ctx, "device_add", d.Device.Arguments(), "device_del", map[string]any{"id": d.Device.ID()})
		if undo.err != nil {
			return false, undo.back(ctx)
		}
	}
	return true, nil
}

// An undoer runs commands until one fails, and can take the others back.
type undoer struct {
	agent *Agent
	vmid  uint32
	done  []qdev.Device // the commands that undo, as names with arguments
	err   error
}

func (u *undoer) run(ctx context.Context, command string, args map[string]any, undo string, undoArgs map[string]any) {
	if u.err != nil {
		return
	}
	if u.err = u.agent.command(ctx, u.vmid, command, args, nil); u.err == nil {
		d := qdev.Device{Driver: undo}
		for name, value := range undoArgs {
			d = d.With(name, value)
		}
		u.done = append(u.done, d)
	}
}

// back undoes what was done, last first, if something failed, and returns the failure.
func (u *undoer) back(ctx context.Context) error {
	if u.err == nil {
		return nil
	}
	for i := len(u.done) - 1; i >= 0; i-- {
		args := u.done[i].Arguments()
		delete(args, "driver")
		if err := u.agent.command(ctx, u.vmid, u.done[i].Driver, args, nil); err != nil {
			u.agent.Log.Warn("not undone", "vmid", u.vmid, "command", u.done[i].Driver, "err", err)
		}
	}
	return u.err
}
