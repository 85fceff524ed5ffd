package cmdline

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// Memory sizes are in MiB here.
const (
	defaultMemory = 512
	maxHotMemory  = 512 << 10 // address space kept for DIMMs
	dimmSlots     = 255
	dimmStep      = 32 // DIMMs of one size before they double
	firstDIMM     = 512
)

func (b *builder) memory() error {
	size, err := b.config.MemoryMB()
	if err != nil {
		return err
	}
	t, err := b.config.Topology()
	if err != nil {
		return err
	}
	huge, err := b.config.HugePageMB()
	if err != nil {
		return err
	}
	if huge > 0 {
		b.cmd.Pages = Pages{KiB: huge << 10, Count: (size + huge - 1) / huge}
	}
	static := size
	hot := b.config.Hotplug()["memory"]
	if hot {
		if !b.config.Bool("numa", false) {
			return config.Errorf("hotplug", "memory hotplug needs numa: 1")
		}
		static = config.StaticMB(huge, t)
		if size < static {
			return config.Errorf("memory", "with memory hotplug at least %d MiB are needed", static)
		}
		b.arg("-m", fmt.Sprintf("size=%d,slots=%d,maxmem=%dM", static, dimmSlots, maxHotMemory))
	} else {
		b.arg("-m", strconv.Itoa(size))
	}
	if b.shared() && !b.config.Bool("numa", false) {
		b.object(b.backend("guest-memory", size, huge))
	}
	if err := b.numa(static, t, huge); err != nil {
		return err
	}
	if hot {
		dimms, err := b.dimms(static, size, t.Sockets, huge)
		if err != nil {
			return err
		}
		for _, d := range dimms {
			b.object(d.Backend)
			b.add(d.Device)
		}
	}
	return b.hotCPUDevices()
}

// HugeDir is where the kernel offers huge pages of each size, below a
// directory such as 2048kB.
const HugeDir = "/run/hugepages/kvm"

// shared reports whether another process reads and writes the guest's memory.
func (b *builder) shared() bool { return len(b.config.Indexed("virtiofs")) > 0 }

// backend is a piece of the guest's memory.
func (b *builder) backend(id string, size, huge int) qdev.Device {
	sized := []any{"id", id, "size", fmt.Sprintf("%dM", size)}
	switch {
	case huge > 0:
		dir := cmp.Or(b.host.HugeDir, HugeDir)
		return qdev.New("memory-backend-file", sized...).With("mem-path", fmt.Sprintf("%s/%dkB", dir, huge<<10), "share", true, "prealloc", true)
	case b.shared():
		return qdev.New("memory-backend-memfd", sized...).With("share", true)
	}
	return qdev.New("memory-backend-ram", sized...)
}

func (b *builder) numa(static int, t config.Topology, huge int) error {
	if !b.config.Bool("numa", false) {
		return nil
	}
	nodes, err := b.config.NUMANodes(static, t)
	if err != nil {
		return err
	}
	for i, n := range nodes {
		id := fmt.Sprintf("ram-node%d", i)
		mem := b.backend(id, n.Size, huge)
		if n.HostNodes != "" {
			mem = mem.With("host-nodes", n.HostNodes, "policy", n.Policy)
		}
		b.object(mem)
		text := fmt.Sprintf("node,nodeid=%d", i)
		for _, cpus := range n.CPUs {
			text += ",cpus=" + cpus
		}
		b.arg("-numa", text+",memdev="+id)
	}
	return nil
}

// A DIMM is memory that can be added while a guest runs.
type DIMM struct {
	Backend, Device qdev.Device
	Bytes           int64 // of Backend, which QMP wants as a number
}

// DIMMsOf returns the DIMMs of a guest whose memory can be hot-plugged, in order.
func DIMMsOf(g Guest, h Host) ([]DIMM, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return nil, err
	}
	size, err1 := b.config.MemoryMB()
	t, err2 := b.config.Topology()
	huge, err3 := b.config.HugePageMB()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return b.dimms(config.StaticMB(huge, t), size, t.Sockets, huge)
}

// dimms makes up the memory beyond the static part: so many of one size, round
// the NUMA nodes, then so many of twice the size.
func (b *builder) dimms(have, want, nodes, huge int) (all []DIMM, err error) {
	size := max(firstDIMM, huge)
	for n := 0; have < want && n < dimmSlots; n++ {
		if n > 0 && n%dimmStep == 0 {
			size *= 2
		}
		if have+size > want {
			return nil, config.Errorf("memory", "%d MiB cannot be made of DIMMs, the next ones have %d MiB: make it %d", want, size, have+size)
		}
		id := fmt.Sprintf("dimm%d", n)
		all = append(all, DIMM{
			Backend: b.backend("mem-"+id, size, huge),
			Device:  qdev.New("pc-dimm", "id", id, "memdev", "mem-"+id, "node", n%nodes),
			Bytes:   int64(size) << 20,
		})
		have += size
	}
	return all, nil
}
