package cmdline

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	t, err := b.config.topology()
	if err != nil {
		return err
	}
	huge, err := b.hugepage()
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
			return keyErr("hotplug", "memory hotplug needs numa: 1")
		}
		static = staticMB(huge, t)
		if size < static {
			return keyErr("memory", "with memory hotplug at least %d MiB are needed", static)
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
		for _, d := range b.dimms(static, size, t.sockets, huge) {
			b.object(d.Backend)
			b.add(d.Device)
		}
	}
	return b.hotCPUDevices()
}

// staticMB is the part of the memory that cannot be taken away.
func staticMB(huge int, t topology) int { return max(1024, huge*t.sockets) }

// StaticMemoryMB returns the part of the memory, in MiB, that is no DIMM.
func (c Config) StaticMemoryMB() (int, error) {
	t, err := c.topology()
	if err != nil || !c.Hotplug()["memory"] {
		return 0, err
	}
	huge, err := (&builder{config: c}).hugepage()
	return staticMB(huge, t), err
}

// MemoryMB returns the size of the guest's memory in MiB.
func (c Config) MemoryMB() (int, error) {
	o, err := c.Options("memory", "current")
	if err != nil || o["current"] == "" {
		return defaultMemory, err
	}
	n, err := strconv.Atoi(o["current"])
	if err != nil || n < 16 {
		return 0, keyErr("memory", "%q is not a size in MiB of at least 16", o["current"])
	}
	return n, nil
}

// hugepage returns the size of the pages that back the guest, 0 for ordinary ones.
func (b *builder) hugepage() (int, error) {
	switch v := b.config["hugepages"]; v {
	case "":
		return 0, nil
	case "any":
		return 2, nil
	case "2", "1024":
		if !b.config.Bool("numa", false) {
			return 0, keyErr("hugepages", "needs numa: 1")
		}
		return strconv.Atoi(v)
	default:
		return 0, keyErr("hugepages", "%q is none of any, 2, 1024", v)
	}
}

// HugeDir is where the kernel offers huge pages of each size, below a
// directory such as 2048kB.
const HugeDir = "/run/hugepages/kvm"

// shared reports whether another process reads and writes the guest's memory.
func (b *builder) shared() bool { return len(b.config.indexed("virtiofs")) > 0 }

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

// A numaNode is one NUMA node of a guest.
type numaNode struct {
	cpus      []string
	size      int
	hostnodes string
	policy    string
}

func (b *builder) numa(static int, t topology, huge int) error {
	if !b.config.Bool("numa", false) {
		return nil
	}
	nodes, err := b.config.numaNodes(static, t)
	if err != nil {
		return err
	}
	for i, n := range nodes {
		id := fmt.Sprintf("ram-node%d", i)
		mem := b.backend(id, n.size, huge)
		if n.hostnodes != "" {
			mem = mem.With("host-nodes", n.hostnodes, "policy", n.policy)
		}
		b.object(mem)
		text := fmt.Sprintf("node,nodeid=%d", i)
		for _, cpus := range n.cpus {
			text += ",cpus=" + cpus
		}
		b.arg("-numa", text+",memdev="+id)
	}
	return nil
}

// numaNodes are those of the numaN keys, or else one for each socket.
func (c Config) numaNodes(static int, t topology) (nodes []numaNode, err error) {
	total := 0
	for _, key := range c.indexed("numa") {
		o, err := c.Options(key, "")
		if err != nil {
			return nil, err
		}
		n := numaNode{cpus: strings.Split(o["cpus"], ";"), hostnodes: strings.ReplaceAll(o["hostnodes"], ";", ","), policy: o["policy"]}
		if n.size, err = strconv.Atoi(o["memory"]); err != nil || o["cpus"] == "" {
			return nil, keyErr(key, "cpus and memory are needed")
		}
		if n.policy == "" {
			n.policy = "preferred"
		}
		total += n.size
		nodes = append(nodes, n)
	}
	if len(nodes) > 0 {
		if total != static {
			return nil, keyErr("memory", "the NUMA nodes have %d MiB together, not %d", total, static)
		}
		return nodes, nil
	}
	if static%t.sockets != 0 {
		return nil, keyErr("memory", "cannot be shared equally by %d sockets", t.sockets)
	}
	for i := range t.sockets {
		cpus := strconv.Itoa(i * t.cores)
		if t.cores > 1 {
			cpus = fmt.Sprintf("%d-%d", i*t.cores, (i+1)*t.cores-1)
		}
		nodes = append(nodes, numaNode{cpus: []string{cpus}, size: static / t.sockets})
	}
	return nodes, nil
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
	t, err2 := b.config.topology()
	huge, err3 := b.hugepage()
	return b.dimms(staticMB(huge, t), size, max(t.sockets, 1), huge), errors.Join(err1, err2, err3)
}

// dimms makes up the memory beyond the static part: so many of one size, round
// the NUMA nodes, then so many of twice the size.
func (b *builder) dimms(have, want, nodes, huge int) (all []DIMM) {
	size := max(firstDIMM, huge)
	for n := 0; have < want && n < dimmSlots; n++ {
		if n > 0 && n%dimmStep == 0 {
			size *= 2
		}
		id := fmt.Sprintf("dimm%d", n)
		all = append(all, DIMM{
			Backend: b.backend("mem-"+id, size, huge),
			Device:  qdev.New("pc-dimm", "id", id, "memdev", "mem-"+id, "node", n%nodes),
			Bytes:   int64(size) << 20,
		})
		have += size
	}
	return all
}
