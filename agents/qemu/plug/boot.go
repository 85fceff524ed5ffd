package plug

import (
	"context"
	"maps"
	"slices"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/hotplug"
)

// changeBoot tells the firmware another order, which it follows from the next
// reset on. An index must not be there twice, so all are taken back first.
func (m Machine) changeBoot(ctx context.Context, c hotplug.Action) (bool, error) {
	g, facts, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	order, err := cmdline.BootOf(g, facts)
	if err != nil {
		return false, err
	}
	devices, err := m.devices(ctx)
	if err != nil {
		return false, err
	}
	var bootable []string
	for _, id := range slices.Sorted(maps.Keys(devices)) {
		if config.Bootable(g.Config, id) {
			bootable = append(bootable, id)
		}
	}
	for _, id := range bootable {
		if err := m.bootIndex(ctx, id, -1); err != nil {
			return false, err
		}
	}
	for _, id := range bootable {
		if index, ok := order[id]; ok {
			if err := m.bootIndex(ctx, id, index); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func (m Machine) bootIndex(ctx context.Context, id string, index int) error {
	return m.QMP(ctx, "qom-set", map[string]any{"path": "/machine/peripheral/" + id, "property": "bootindex", "value": index}, nil)
}

func (m Machine) changeShare(ctx context.Context, c hotplug.Action) (bool, error) {
	g, _, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	err = m.Share(ctx, g.Config)
	return err == nil, err
}
