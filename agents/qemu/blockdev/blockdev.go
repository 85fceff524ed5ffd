// Package blockdev stacks the block nodes of a drive: a protocol node that
// reaches the bytes, a format node that reads them, a throttle node on top.
//
// It owns the names of the nodes and what the options of a drive mean for each.
// It never opens anything.
package blockdev

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"etcpve/agents/qemu/throttle"
)

// A Volume is a disk image as QEMU has to open it.
type Volume struct {
	Path   string // of the file or block device
	Format string // raw, qcow2, vmdk
	Device bool   // Path is a block device
	Size   int64  // in bytes, 0 if unknown

	// Protocol replaces Path for what QEMU reaches by itself: a protocol node
	// without a node name, such as {"driver": "rbd", …}.
	Protocol map[string]any

	// SyncOnly: io_uring would block on this kind of storage. BufferedSync: it
	// would with a page cache in between.
	SyncOnly, BufferedSync bool
}

// A Drive says how a volume is used.
type Drive struct {
	Key      string
	Options  map[string]string // of the key, the volume under "file"
	CDROM    bool
	ReadOnly bool   // besides what the options say
	Size     int    // in bytes, of the part that is shown; 0 for all
	Overlay  string // file that takes what is written; "" for the volume itself
}

// TopName returns the name of the topmost node of a drive.
func TopName(key string) string { return "drive-" + key }

// FormatName returns the name of the node of a drive that reads the format of its
// volume, below the throttle.
func FormatName(key, volume string) string { return "f" + nodeID(key, volume) }

// Stack returns the nodes of a drive, the topmost one outside.
func Stack(d Drive, v Volume) map[string]any {
	o := d.Options
	format := v.Format
	if o["format"] != "" {
		format = o["format"]
	}
	direct := d.direct()
	common := map[string]any{
		"cache":     map[string]any{"direct": direct, "no-flush": o["cache"] == "unsafe"},
		"read-only": d.CDROM || truth(o["ro"], false) || d.ReadOnly,
	}
	if !d.CDROM {
		common["discard"], common["detect-zeroes"] = discard(o)
	}
	id := nodeID(d.Key, o["file"])
	file := merge(v.protocol(d.CDROM), common, map[string]any{"node-name": "e" + id})
	if driver := file["driver"]; driver == "file" || driver == "host_device" || driver == "host_cdrom" {
		file["aio"] = aio(o, v, direct)
	}
	top := merge(common, map[string]any{"driver": format, "node-name": "f" + id, "file": file})
	if d.Size > 0 && format == "raw" {
		top["size"] = d.Size
	}
	if d.Overlay != "" {
		top = d.volatile(top, common, id)
	}
	limited := merge(common, map[string]any{"driver": "throttle", "node-name": TopName(d.Key), "throttle-group": throttle.GroupName(d.Key), "file": top})
	delete(limited, "cache")
	return limited
}

// volatile puts what is written into an overlay, which goes with QEMU, and
// leaves the volume as it is.
func (d Drive) volatile(base, common map[string]any, id string) map[string]any {
	reader := map[string]any{"read-only": true, "detect-zeroes": "off", "discard": "ignore"}
	base["file"] = merge(base["file"].(map[string]any), reader)
	common = merge(common, map[string]any{"cache": map[string]any{"direct": false, "no-flush": true}}) // nobody wants it after a crash
	overlay := merge(common, map[string]any{"driver": "file", "filename": d.Overlay, "node-name": "o" + id, "aio": "threads"})
	return merge(common, map[string]any{"driver": "qcow2", "node-name": "s" + id, "file": overlay, "backing": merge(base, reader)})
}

// direct reports whether the page cache of the node is left out.
func (d Drive) direct() bool {
	switch cache := d.Options["cache"]; {
	case cache == "none" || cache == "directsync":
		return true
	case d.CDROM || d.Key == "efidisk0":
		return false
	default:
		return !slices.Contains([]string{"writeback", "writethrough", "unsafe"}, cache)
	}
}

// discard returns the values of discard and detect-zeroes.
func discard(o map[string]string) (discard, detect string) {
	detect = "on"
	if !truth(o["detect_zeroes"], true) {
		detect = "off"
	}
	if o["discard"] != "on" {
		return "ignore", detect
	}
	if detect == "on" {
		detect = "unmap"
	}
	return "unmap", detect
}

// aio picks how the file is read and written. QEMU's native AIO needs a file
// opened without the page cache.
func aio(o map[string]string, v Volume, direct bool) string {
	switch {
	case o["aio"] == "native" && !direct:
		return "threads"
	case o["aio"] != "":
		return o["aio"]
	case v.SyncOnly && direct:
		return "native"
	case v.SyncOnly || v.BufferedSync && !direct:
		return "threads"
	}
	return "io_uring"
}

func (v Volume) protocol(cdrom bool) map[string]any {
	switch {
	case v.Protocol != nil:
		return v.Protocol
	case v.Device && cdrom:
		return map[string]any{"driver": "host_cdrom", "filename": v.Path}
	case v.Device:
		return map[string]any{"driver": "host_device", "filename": v.Path}
	}
	return map[string]any{"driver": "file", "filename": v.Path}
}

// nodeID names the inner nodes of a drive: one volume may be in use twice, and
// a node name has at most 31 characters.
func nodeID(key, volume string) string {
	sum := sha256.Sum256([]byte(key + "\x00" + volume))
	return hex.EncodeToString(sum[:15])
}

func merge(nodes ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, n := range nodes {
		for k, v := range n {
			out[k] = v
		}
	}
	return out
}

func truth(value string, def bool) bool {
	switch value {
	case "":
		return def
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
