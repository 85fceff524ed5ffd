package plug

import (
	"context"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
)

func (m Machine) nicOf(ctx context.Context, key string) (cmdline.NIC, cmdline.Config, error) {
	g, facts, err := m.With(ctx, key)
	if err != nil {
		return cmdline.NIC{}, nil, err
	}
	n, err := cmdline.NICOf(g, facts, key)
	return n, g.Config, err
}

func (m Machine) plugNIC(ctx context.Context, c hotplug.Action) (bool, error) {
	n, config, err := m.nicOf(ctx, c.Key)
	if err != nil {
		return false, err
	}
	netdev := n.Netdev.Arguments()
	netdev["type"] = netdev["driver"]
	delete(netdev, "driver")
	devices, err := m.devices(ctx)
	if err != nil {
		return false, err
	}
	if devices[c.Key] { // an agent before this one came no further
		return true, m.finishNIC(ctx, n, config)
	}
	if err := m.try(ctx, "netdev_del", byID("%s", c.Key)); err != nil {
		return false, err
	}
	undo := undoer{Machine: m}
	undo.run(ctx, "netdev_add", netdev, "netdev_del", byID("%s", c.Key))
	undo.run(ctx, "device_add", n.Device.Arguments(), "device_del", byID("%s", c.Key))
	undo.also(func() error { return m.finishNIC(ctx, n, config) })
	return undo.err == nil, undo.back(ctx)
}

// finishNIC connects a NIC that QEMU has.
func (m Machine) finishNIC(ctx context.Context, n cmdline.NIC, config cmdline.Config) error {
	if n.Tap != nil {
		if err := m.Ports.Plug(ctx, *n.Tap); err != nil {
			return err
		}
	}
	return m.Link(ctx, config, n.Key, false)
}

func (m Machine) unplugNIC(ctx context.Context, c hotplug.Action) (bool, error) {
	if gone, err := m.unplug(ctx, c.Key); err != nil || !gone {
		return false, err
	}
	if err := m.try(ctx, "netdev_del", byID("%s", c.Key)); err != nil {
		return false, err
	}
	return true, m.Ports.Unplug(ctx, cmdline.TapName(m.VMID, c.Key))
}

func (m Machine) changeLink(ctx context.Context, c hotplug.Action) (bool, error) {
	g, _, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	return true, m.Link(ctx, g.Config, c.Key, true)
}

// Link pulls the cable out of a NIC or puts it back; a NIC that was just made
// has it in, which always says not to rely on.
func (m Machine) Link(ctx context.Context, config cmdline.Config, key string, always bool) error {
	o, err := cmdline.NICOptions(config, key)
	if err != nil {
		return err
	}
	down := o.Bool("link_down", false)
	if !down && !always {
		return nil
	}
	return m.QMP(ctx, "set_link", map[string]any{"name": key, "up": !down}, nil)
}

// changePort moves the node's side of a NIC.
func (m Machine) changePort(ctx context.Context, c hotplug.Action) (bool, error) {
	n, config, err := m.nicOf(ctx, c.Key)
	if err != nil || n.Tap == nil {
		return err == nil, err
	}
	if err := m.Ports.Plug(ctx, *n.Tap); err != nil {
		return false, err
	}
	return true, m.Link(ctx, config, c.Key, true)
}
