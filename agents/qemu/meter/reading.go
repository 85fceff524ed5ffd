package meter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/balloon"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/sample"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A Reading is what a look at one VM told: its sample, and what a balloon has to
// know.
type Reading struct {
	sample.Guest
	guest balloon.Guest
}

// atRest is what a VM's configuration tells by itself.
func (m *Meter) atRest(vm VM, now time.Time) Reading {
	r := Reading{guest: balloon.Guest{VMID: vm.VMID, Migrating: vm.Config["lock"] == "migrate"}}
	r.Guest = sample.Guest{VMID: vm.VMID, Name: vm.Config["name"], Status: "stopped", Template: vm.Config.Bool("template", false),
		Time: now, Uptime: sample.Count(0), CPUs: sample.Count(cpus(vm.Config)), Disk: bootDisk(vm.Config), DiskUsed: sample.Count(0)}
	if r.Name == "" {
		r.Name = fmt.Sprintf("VM %d", vm.VMID)
	}
	memory, err := vm.Config.MemoryMB()
	if err != nil {
		return r
	}
	r.guest.Max = int64(memory) << 20
	r.Memory = sample.Count(r.guest.Max)
	if least, err := strconv.ParseInt(vm.Config["balloon"], 10, 64); err == nil && least > 0 {
		r.guest.Min = min(least<<20, r.guest.Max)
	}
	if shares, err := strconv.ParseInt(vm.Config["shares"], 10, 64); err == nil {
		r.guest.Shares = &shares
	}
	return r
}

// cpus is how many CPUs a VM has.
func cpus(c cmdline.Config) int {
	number := func(key string, preset int) int {
		n, err := strconv.Atoi(c[key])
		if err != nil || n < 1 {
			return preset
		}
		return n
	}
	return number("vcpus", number("sockets", 1)*number("cores", 1))
}

// bootDisk is the size of the disk that a VM boots from, if the configuration
// tells: the first one of the boot order that is a disk.
func bootDisk(c cmdline.Config) sample.Value {
	order, _ := c.Options("boot", "legacy") // what cannot be read names no disk
	keys := append(schema.SplitList(order["order"]), c["bootdisk"])
	for _, key := range append(keys, c.DriveKeys()...) {
		o, err := c.Options(key, "file")
		if err != nil || o["size"] == "" || o["media"] == "cdrom" {
			continue
		}
		if size, ok := schema.ParseSize(o["size"]); ok {
			return sample.Count(size)
		}
	}
	return sample.Value{}
}

// ask lets a VM's QEMU tell. The first command that fails is the last: a QEMU
// that does not answer one answers no other.
func (m *Meter) ask(ctx context.Context, vm VM, r *Reading) {
	for _, question := range []func(context.Context, VM, *Reading) error{m.askBalloon, m.askDisks} {
		ctx, cancel := context.WithTimeout(ctx, deadline)
		err := question(ctx, vm, r)
		cancel()
		if err != nil {
			m.Log.Debug("QEMU does not tell", "vmid", vm.VMID, "err", err)
			return
		}
	}
}

// device is the balloon's, which has an own path in QEMU.
const device = "/machine/peripheral/balloon0"

// unsaid is what a guest's driver tells of a value that it does not know.
const unsaid = 1<<64 - 1

// askBalloon asks how much memory a guest has, and uses. Until it is asked for,
// a guest does not tell.
func (m *Meter) askBalloon(ctx context.Context, vm VM, r *Reading) error {
	if vm.Config["balloon"] == "0" {
		return nil
	}
	var size struct{ Actual int64 }
	if err := m.Ask(ctx, vm.VMID, "query-balloon", nil, &size); err != nil {
		return err
	}
	r.guest.Size = size.Actual
	var told struct {
		Stats map[string]uint64
		Last  int64 `json:"last-update"`
	}
	property := map[string]any{"path": device, "property": "guest-stats"}
	if err := m.Ask(ctx, vm.VMID, "qom-get", property, &told); err != nil {
		return err
	}
	if told.Last == 0 {
		interval := map[string]any{"path": device, "property": "guest-stats-polling-interval", "value": polling}
		return m.Ask(ctx, vm.VMID, "qom-set", interval, nil)
	}
	total, free := told.Stats["stat-total-memory"], told.Stats["stat-free-memory"]
	if total != unsaid && free != unsaid && total > 0 && free <= total {
		r.guest.Free = int64(free)
		r.MemoryUsed = sample.Count(total - free)
	}
	return nil
}

// askDisks adds up what a guest read and wrote.
func (m *Meter) askDisks(ctx context.Context, vm VM, r *Reading) error {
	var disks []struct {
		QDev  string
		Stats struct {
			Read    uint64 `json:"rd_bytes"`
			Written uint64 `json:"wr_bytes"`
		}
	}
	if err := m.Ask(ctx, vm.VMID, "query-blockstats", nil, &disks); err != nil {
		return err
	}
	var read, written uint64
	for _, d := range disks {
		if d.QDev != "" {
			read += d.Stats.Read
			written += d.Stats.Written
		}
	}
	r.DiskRead, r.DiskWrite = sample.Count(read), sample.Count(written)
	return nil
}

// process reads what a VM takes of the node, and keeps it for the next look.
func (m *Meter) process(vm VM, r *Reading, now time.Time, taps []string, used map[uint32]spent) {
	usage, err := host.Proc.Usage(vm.Process)
	if err != nil {
		return // it ended meanwhile
	}
	r.Status = "running"
	r.Uptime = sample.Count(int64(usage.Age.Seconds()))
	r.MemoryHost = sample.Count(usage.RSS)
	if r.MemoryUsed.String() == sample.Unknown {
		r.MemoryUsed = r.MemoryHost
	}
	used[vm.VMID] = spent{vm.Process, usage.CPU, now}
	if before, ok := m.usage[vm.VMID]; ok && before.Process == vm.Process && now.After(before.at) {
		r.CPU = sample.Share((usage.CPU - before.cpu).Seconds() / now.Sub(before.at).Seconds() / float64(cpus(vm.Config)))
	}
	r.NetIn, r.NetOut = network(taps)
	r.Pressure = m.pressure(vm)
}

func (m *Meter) sys() string {
	if m.Sys == "" {
		return "/sys"
	}
	return m.Sys
}

// taps lists the node's ends of all VMs' NICs, by VMID.
func (m *Meter) taps() map[uint32][]string {
	dir := filepath.Join(m.sys(), "class/net")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	found := map[uint32][]string{}
	for _, e := range entries {
		rest, tap := strings.CutPrefix(e.Name(), "tap")
		digits, _, nic := strings.Cut(rest, "i")
		if vmid, ok := layout.ParseVMID(digits); tap && nic && ok {
			found[vmid] = append(found[vmid], filepath.Join(dir, e.Name(), "statistics"))
		}
	}
	return found
}

// network adds up what passed a VM's NICs: what the node's ends sent came in.
func network(taps []string) (in, out sample.Value) {
	var received, sent uint64
	for _, dir := range taps {
		sent += number(filepath.Join(dir, "rx_bytes"))
		received += number(filepath.Join(dir, "tx_bytes"))
	}
	return sample.Count(received), sample.Count(sent)
}

// number reads a file that holds one, or 0: a NIC may go at any time.
func number(name string) (n uint64) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// pressure is known where a VM has a control group of its own.
func (m *Meter) pressure(vm VM) (p sample.Pressure) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", vm.Process.PID))
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && strings.TrimSuffix(filepath.Base(group), ".scope") == strconv.FormatUint(uint64(vm.VMID), 10) {
			return sample.PressureAt(filepath.Join(m.sys(), "fs/cgroup", group), ".pressure")
		}
	}
	return p
}
