package plug

import (
	"context"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
)

func (m Machine) plugUSB(ctx context.Context, c hotplug.Action) (bool, error) {
	g, facts, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	d, err := cmdline.USBOf(g, facts, c.Key)
	if err != nil {
		return false, err
	}
	devices, err := m.devices(ctx)
	if err != nil || devices[d.Device.ID()] { // an agent before this one came no further
		return err == nil, err
	}
	undo := undoer{Machine: m}
	if id := d.Controller.ID(); id != "" && !devices[id] {
		undo.run(ctx, "device_add", d.Controller.Arguments(), "device_del", byID("%s", id))
	}
	if d.Redirect != "" {
		if err := m.try(ctx, "chardev-remove", byID("%s", d.Redirect)); err != nil {
			return false, err
		}
		backend := map[string]any{"type": "spicevmc", "data": map[string]any{"type": "usbredir"}}
		undo.run(ctx, "chardev-add", map[string]any{"id": d.Redirect, "backend": backend}, "chardev-remove", byID("%s", d.Redirect))
	}
	undo.run(ctx, "device_add", d.Device.Arguments(), "device_del", byID("%s", d.Device.ID()))
	return undo.err == nil, undo.back(ctx)
}

// unplugUSB takes a device away, of either kind: the new value does not say
// what the old one was.
func (m Machine) unplugUSB(ctx context.Context, c hotplug.Action) (bool, error) {
	n, _ := cmdline.Index(c.Key, "usb")
	for _, id := range []string{c.Key, cmdline.RedirectID(n)} {
		if gone, err := m.unplug(ctx, id); err != nil || !gone {
			return false, err
		}
	}
	return true, m.try(ctx, "chardev-remove", byID("%s", cmdline.RedirectChardev(n)))
}

// changeTablet gives the guest its pointer, or takes it away.
func (m Machine) changeTablet(ctx context.Context, c hotplug.Action) (bool, error) {
	g, facts, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	tablet, wanted, err := cmdline.TabletOf(g, facts)
	if err != nil {
		return false, err
	}
	if !wanted {
		return m.unplug(ctx, tablet.ID())
	}
	devices, err := m.devices(ctx)
	if err != nil || devices[tablet.ID()] {
		return err == nil, err
	}
	err = m.QMP(ctx, "device_add", tablet.Arguments(), nil)
	return err == nil, err
}
