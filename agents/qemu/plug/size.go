package plug

import (
	"context"
	"fmt"
	"slices"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
)

func (m Machine) changeBalloon(ctx context.Context, c hotplug.Action) (bool, error) {
	return true, m.Balloon(ctx, c.MiB)
}

// Balloon asks the guest to get by with so much memory.
func (m Machine) Balloon(ctx context.Context, mib int) error {
	return m.QMP(ctx, "balloon", map[string]any{"value": int64(mib) << 20}, nil)
}

// A part is one of a row of numbered devices that make a machine larger.
type part struct {
	device  map[string]any
	backend map[string]any // the object it stands on; nil if none
}

func (p part) id() string { return p.device["id"].(string) }

func (m Machine) changeCPUs(ctx context.Context, c hotplug.Action) (bool, error) {
	g, facts, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	cpus, err := cmdline.CPUsOf(g, facts)
	if err != nil {
		return false, err
	}
	var parts []part
	for _, d := range cpus {
		parts = append(parts, part{device: d.Arguments()})
	}
	return m.resize(ctx, "cpu", parts)
}

func (m Machine) changeMemory(ctx context.Context, c hotplug.Action) (bool, error) {
	g, facts, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	dimms, err := cmdline.DIMMsOf(g, facts)
	if err != nil {
		return false, err
	}
	var parts []part
	for _, d := range dimms {
		backend := d.Backend.Arguments()
		backend["qom-type"] = backend["driver"]
		delete(backend, "driver")
		backend["size"] = d.Bytes
		parts = append(parts, part{d.Device.Arguments(), backend})
	}
	return m.resize(ctx, "dimm", parts)
}

// resize plugs the parts that are missing, or asks the guest to release those
// beyond the wanted ones, the last first.
func (m Machine) resize(ctx context.Context, series string, wanted []part) (bool, error) {
	devices, err := m.devices(ctx)
	if err != nil {
		return false, err
	}
	keep := map[string]bool{}
	for _, p := range wanted {
		keep[p.id()] = true
		if devices[p.id()] {
			continue
		}
		if err := m.plugPart(ctx, p); err != nil {
			return false, err
		}
	}
	var beyond []int
	for id := range devices {
		if n, ok := cmdline.Index(id, series); ok && !keep[id] {
			beyond = append(beyond, n)
		}
	}
	slices.Sort(beyond)
	for _, n := range slices.Backward(beyond) {
		id := fmt.Sprintf("%s%d", series, n)
		if gone, err := m.unplug(ctx, id); err != nil || !gone {
			return false, err
		}
		if err := m.try(ctx, "object-del", byID("mem-%s", id)); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (m Machine) plugPart(ctx context.Context, p part) error {
	undo := undoer{Machine: m}
	if p.backend != nil {
		own := map[string]any{"id": p.backend["id"]}
		if err := m.try(ctx, "object-del", own); err != nil { // left by an agent before
			return err
		}
		undo.run(ctx, "object-add", p.backend, "object-del", own)
	}
	undo.run(ctx, "device_add", p.device, "device_del", byID("%s", p.id()))
	return undo.back(ctx)
}
