// Package figures is what a VM takes and gives, by the names of Proxmox VE's API.
//
// It owns what is asked of the kernel and of QEMU for that, and how it is printed.
// It keeps nothing between two looks, and never changes a VM.
package figures

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

// Figures are values by name; what belongs together are figures of their own.
type Figures map[string]any

// Ask adds what QEMU tells, up to the first question that it does not answer.
func (f Figures) Ask(ctx context.Context, m *monitor.Monitor) {
	for _, ask := range []func(context.Context, *monitor.Monitor) error{f.askQEMU, f.askDisks, f.askMemory} {
		if ask(ctx, m) != nil {
			return
		}
	}
}

// Network adds up what passed a VM's NICs: what the node's ends sent came in.
func (f Figures) Network(sys string, vmid uint32) {
	taps, _ := filepath.Glob(filepath.Join(sys, fmt.Sprintf("class/net/tap%di*", vmid))) // the pattern is well formed
	var in, out uint64
	nics := Figures{}
	for _, tap := range taps {
		received, sent := counter(tap, "tx_bytes"), counter(tap, "rx_bytes")
		nics[filepath.Base(tap)] = Figures{"netin": received, "netout": sent}
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

func (f Figures) askQEMU(ctx context.Context, m *monitor.Monitor) error {
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

func (f Figures) askDisks(ctx context.Context, m *monitor.Monitor) error {
	var disks []struct {
		QDev  string
		Node  string `json:"node-name"`
		Stats map[string]any
	}
	if err := m.Run(ctx, "query-blockstats", nil, &disks); err != nil {
		return err
	}
	var read, written uint64
	all := Figures{}
	for _, d := range disks {
		name := driveOf(d.QDev, d.Node)
		if name == "" {
			continue
		}
		stats := Figures{}
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
func (f Figures) askMemory(ctx context.Context, m *monitor.Monitor) error {
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
	info := Figures{"actual": size.Actual, "max_mem": f["maxmem"], "last_update": told.Last}
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

// Print writes figures, those that belong together below their name.
func (f Figures) Print(out io.Writer, indent string) {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		switch value := f[key].(type) {
		case Figures:
			fmt.Fprintf(out, "%s%s:\n", indent, key)
			value.Print(out, "\t"+indent)
		case []any, map[string]any: // histograms that nobody has asked for
		default:
			fmt.Fprintf(out, "%s%s: %v\n", indent, key, value)
		}
	}
}
