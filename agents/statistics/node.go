package statistics

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/sample"
)

// A Machine is where a node's numbers are read; the zero value is this one.
type Machine struct {
	Proc, Sys, Root string // default /proc, /sys, /

	before times // at the last look
}

// times are what all CPUs together spent since boot, in clock ticks.
type times struct{ all, idle, wait uint64 }

func (m *Machine) proc(name string) string { return filepath.Join(or(m.Proc, "/proc"), name) }

func or(text, preset string) string {
	if text == "" {
		return preset
	}
	return text
}

// Measure returns a sample of the node. What cannot be read is unknown; how
// busy the CPUs are is known from the second look on.
func (m *Machine) Measure(name string, now time.Time) sample.Node {
	n := sample.Node{Name: name, Time: now, CPUs: sample.Count(runtime.NumCPU()), Pressure: sample.PressureAt(m.proc("pressure"), "")}
	proc := host.ProcFS(or(m.Proc, "/proc"))
	if up, err := proc.Uptime(); err == nil {
		n.Uptime = sample.Count(int64(up.Seconds()))
	}
	if load, err := strconv.ParseFloat(word(m.proc("loadavg"), 0), 64); err == nil {
		n.Load = sample.Share(load)
	}
	if mem, err := proc.Memory(); err == nil {
		n.Memory, n.MemoryFree = sample.Count(mem.Total), sample.Count(mem.Available)
		n.MemoryUsed = sample.Count(int64(mem.Total) - int64(mem.Available))
		n.Swap, n.SwapUsed = sample.Count(mem.SwapTotal), sample.Count(int64(mem.SwapTotal)-int64(mem.SwapFree))
	}
	m.cpu(&n)
	m.network(&n)
	var root syscall.Statfs_t
	if syscall.Statfs(or(m.Root, "/"), &root) == nil {
		n.Root = sample.Count(root.Blocks * uint64(root.Bsize))
		n.RootUsed = sample.Count((root.Blocks - root.Bfree) * uint64(root.Bsize))
	}
	n.ARC = sample.Count(m.arc())
	return n
}

// cpu says how the time since the last look was spent.
func (m *Machine) cpu(n *sample.Node) {
	text, err := os.ReadFile(m.proc("stat"))
	now, ok := parseTimes(string(text))
	before := m.before
	m.before = now
	if err != nil || !ok || before.all == 0 || now.all <= before.all {
		return
	}
	all := float64(now.all - before.all)
	idle, wait := float64(now.idle)-float64(before.idle), float64(now.wait)-float64(before.wait)
	n.CPU, n.Wait = sample.Share(max(0, (all-idle-wait)/all)), sample.Share(max(0, wait/all))
}

// parseTimes reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq, steal. What guests take is part of user.
func parseTimes(text string) (t times, ok bool) {
	line, _, _ := strings.Cut(text, "\n")
	words := strings.Fields(line)
	if len(words) < 9 || words[0] != "cpu" {
		return t, false
	}
	for i, w := range words[1:9] {
		ticks, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return t, false
		}
		t.all += ticks
		switch i {
		case 3:
			t.idle = ticks
		case 4:
			t.wait = ticks
		}
	}
	return t, true
}

// network adds up the interfaces that are hardware: what passes bridges, bonds
// and guests passes those as well.
func (m *Machine) network(n *sample.Node) {
	devices, err := filepath.Glob(filepath.Join(or(m.Sys, "/sys"), "class/net/*/device"))
	if err != nil {
		return
	}
	var in, out uint64
	for _, device := range devices {
		dir := filepath.Dir(device)
		in += number(filepath.Join(dir, "statistics/rx_bytes"))
		out += number(filepath.Join(dir, "statistics/tx_bytes"))
	}
	n.NetIn, n.NetOut = sample.Count(in), sample.Count(out)
}

// arc is the memory that ZFS uses as its cache; none without ZFS.
func (m *Machine) arc() (bytes uint64) {
	text, err := os.ReadFile(m.proc("spl/kstat/zfs/arcstats"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "size" {
			bytes, _ = strconv.ParseUint(words[2], 10, 64) // 0 as without it
		}
	}
	return bytes
}

// word returns a word of a file's first line, or "".
func word(name string, index int) string {
	text, err := os.ReadFile(name)
	words := strings.Fields(string(text))
	if err != nil || len(words) <= index {
		return ""
	}
	return words[index]
}

// number reads a file that holds one, or 0.
func number(name string) uint64 {
	n, _ := strconv.ParseUint(word(name, 0), 10, 64) // an interface may go at any time
	return n
}
