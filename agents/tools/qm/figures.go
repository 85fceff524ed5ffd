package qm

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
)

// figures are what a VM takes and gives, by the names of Proxmox VE's API.
type figures map[string]any

// rest are the figures of a VM that does not run.
func (v vm) rest() figures {
	f := figures{
		"cpus": v.cpus(), "disk": 0, "diskread": 0, "diskwrite": 0, "maxdisk": v.bootDisk(), "maxmem": int64(v.memory()) * mib,
		"mem": 0, "name": v.name(), "netin": 0, "netout": 0, "qmpstatus": "stopped", "status": "stopped", "uptime": 0, "vmid": v.VMID,
	}
	for _, key := range []string{"tags", "lock", "template", "shares"} {
		if v.Main.Has(key) {
			f[key] = v.Main.Get(key)
		}
	}
	if least, err := strconv.ParseInt(v.Main.Get("balloon"), 10, 64); err == nil && least > 0 {
		f["balloon_min"] = least * mib
	}
	if len(v.Main.Series("serial")) > 0 {
		f["serial"] = 1
	}
	return f
}

// figures are those of a VM now.
func (p Place) figures(ctx context.Context, v vm, o observed) figures {
	f := v.rest()
	if !o.runs() {
		return f
	}
	f["status"], f["qmpstatus"], f["pid"] = "running", o.status, o.process.PID
	f["mem"], f["memhost"], f["uptime"] = o.usage.RSS, o.usage.RSS, int64(o.usage.Age.Seconds())
	f.network(p.sys(), v.VMID)
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, err := monitor.Dial(ctx, cmdline.RunFile(p.RunDir, v.VMID, "qmp"))
	if err != nil {
		return f // a QEMU that does not answer still runs
	}
	defer m.Close()
	for _, ask := range []func(context.Context, *monitor.Monitor) error{f.askQEMU, f.askDisks, f.askMemory} {
		if ask(ctx, m) != nil {
			return f
		}
	}
	return f
}

func (p Place) sys() string {
	if p.Sys == "" {
		return "/sys"
	}
	return p.Sys
}

// network adds up what passed a VM's NICs: what the node's ends sent came in.
func (f figures) network(sys string, vmid uint32) {
	taps, _ := filepath.Glob(filepath.Join(sys, fmt.Sprintf("class/net/tap%di*", vmid))) // the pattern is well formed
	var in, out uint64
	nics := figures{}
	for _, tap := range taps {
		received, sent := counter(tap, "tx_bytes"), counter(tap, "rx_bytes")
		nics[filepath.Base(tap)] = figures{"netin": received, "netout": sent}
		in, out = in+received, out+sent
	}
	f["netin"], f["netout"] = in, out
	if len(nics) > 0 {
		f["nics"] = nics
	}
}

// counter reads one of a NIC's, or 0: a NIC may go at any time.
func counter(nic, name string) (n uint64) {
	text, err := os.ReadFile(filepath.Join(nic, "statistics", name))
	if err != nil {
		return 0
	}
	n, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n
}

func (f figures) askQEMU(ctx context.Context, m *monitor.Monitor) error {
	var version struct {
		QEMU struct{ Major, Minor, Micro int }
	}
	if err := m.Run(ctx, "query-version", nil, &version); err != nil {
		return err
	}
	f["running-qemu"] = fmt.Sprintf("%d.%d.%d", version.QEMU.Major, version.QEMU.Minor, version.QEMU.Micro)
	var machine string
	err := m.Run(ctx, "qom-get", map[string]any{"path": "/machine", "property": "type"}, &machine)
	f["running-machine"] = strings.TrimSuffix(machine, "-machine")
	return err
}

func (f figures) askDisks(ctx context.Context, m *monitor.Monitor) error {
	var disks []struct {
		QDev  string
		Node  string `json:"node-name"`
		Stats map[string]any
	}
	if err := m.Run(ctx, "query-blockstats", nil, &disks); err != nil {
		return err
	}
	var read, written uint64
	all := figures{}
	for _, d := range disks {
		name := driveOf(d.QDev, d.Node)
		if name == "" {
			continue
		}
		stats := figures{}
		for key, value := range d.Stats {
			stats[key] = whole(value)
		}
		all[name] = stats
		read += uint64(number64(d.Stats["rd_bytes"]))
		written += uint64(number64(d.Stats["wr_bytes"]))
	}
	f["diskread"], f["diskwrite"], f["blockstat"] = read, written, all
	return nil
}

// driveOf is the key of the drive that a device shows: its ID, or that of its node.
func driveOf(qdev, node string) string {
	if key, ok := strings.CutPrefix(node, "drive-"); ok {
		return key
	}
	for part := range strings.SplitSeq(qdev, "/") {
		for _, bus := range []string{"ide", "sata", "scsi", "virtio"} {
			if _, ok := cmdline.Index(part, bus); ok {
				return part
			}
		}
	}
	return ""
}

// unsaid is what a guest's driver tells of a value that it does not know.
const unsaid = 1<<64 - 1

// balloonDevice is the path of a balloon in QEMU.
const balloonDevice = "/machine/peripheral/balloon0"

// askMemory asks the balloon; a VM without one is told by its process.
func (f figures) askMemory(ctx context.Context, m *monitor.Monitor) error {
	var size struct{ Actual int64 }
	if err := m.Run(ctx, "query-balloon", nil, &size); err != nil {
		return err
	}
	var told struct {
		Stats map[string]uint64
		Last  int64 `json:"last-update"`
	}
	if err := m.Run(ctx, "qom-get", map[string]any{"path": balloonDevice, "property": "guest-stats"}, &told); err != nil {
		return err
	}
	info := figures{"actual": size.Actual, "max_mem": f["maxmem"], "last_update": told.Last}
	f["balloon"], f["ballooninfo"] = size.Actual, info
	total, free := told.Stats["stat-total-memory"], told.Stats["stat-free-memory"]
	if total == 0 || total == unsaid || free > total {
		return nil
	}
	info["total_mem"], info["free_mem"] = total, free
	f["freemem"], f["mem"] = free, total-free
	return nil
}

func number64(value any) float64 {
	n, _ := value.(float64)
	return n
}

// whole is a number without a fraction as such: QEMU counts up to 2^63.
func whole(value any) any {
	if n, ok := value.(float64); ok && n == float64(int64(n)) {
		return int64(n)
	}
	return value
}

// print writes figures, those that belong together below their name.
func (f figures) print(out io.Writer, indent string) {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		switch value := f[key].(type) {
		case figures:
			fmt.Fprintf(out, "%s%s:\n", indent, key)
			value.print(out, "\t"+indent)
		case []any, map[string]any: // histograms that nobody has asked for
		default:
			fmt.Fprintf(out, "%s%s: %v\n", indent, key, value)
		}
	}
}
