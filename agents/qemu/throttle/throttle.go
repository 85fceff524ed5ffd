// Package throttle reads how fast a drive may be used and says it to QEMU.
//
// It owns the names of the limits in the configuration, in a throttle group
// and in block_set_io_throttle. A drive has its limit in both places with the
// same numbers: the group is there from the command line on, and query-block
// shows the other. It never talks to QEMU itself.
package throttle

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Limit is how fast a drive may be used.
type Limit struct {
	Key    string
	Values map[string]int64 // by the names of block_set_io_throttle, without zeros
}

// limitNames pairs the names of a limit: in block_set_io_throttle, which are
// those of the configuration, and in a throttle group.
var limitNames = []struct{ key, group string }{
	{"bps", "bps-total"}, {"bps_rd", "bps-read"}, {"bps_wr", "bps-write"},
	{"iops", "iops-total"}, {"iops_rd", "iops-read"}, {"iops_wr", "iops-write"},
	{"bps_max", "bps-total-max"}, {"bps_rd_max", "bps-read-max"}, {"bps_wr_max", "bps-write-max"},
	{"iops_max", "iops-total-max"}, {"iops_rd_max", "iops-read-max"}, {"iops_wr_max", "iops-write-max"},
	{"bps_max_length", "bps-total-max-length"}, {"bps_rd_max_length", "bps-read-max-length"},
	{"bps_wr_max_length", "bps-write-max-length"}, {"iops_max_length", "iops-total-max-length"},
	{"iops_rd_max_length", "iops-read-max-length"}, {"iops_wr_max_length", "iops-write-max-length"},
}

// megabytes are the options that count bytes in units of 1024 × 1024.
var megabytes = map[string]string{
	"mbps": "bps", "mbps_rd": "bps_rd", "mbps_wr": "bps_wr",
	"mbps_max": "bps_max", "mbps_rd_max": "bps_rd_max", "mbps_wr_max": "bps_wr_max",
}

// Is reports whether an option of a drive is a throttle.
func Is(option string) bool {
	_, mega := megabytes[option]
	for _, n := range limitNames {
		mega = mega || n.key == option
	}
	return mega
}

// Parse returns the limits among the options of a drive.
func Parse(key string, options map[string]string) (Limit, error) {
	l := Limit{Key: key, Values: map[string]int64{}}
	for option, value := range options {
		name, scale := option, 1.0
		if bytes, ok := megabytes[option]; ok {
			name, scale = bytes, 1<<20
		}
		if !Is(name) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n < 0 || n*scale > math.MaxInt64/2 {
			return l, fmt.Errorf("%s: %q is not a limit", option, value)
		}
		if n > 0 {
			l.Values[name] = int64(n * scale)
		}
	}
	return l, nil
}

// Zero reports whether the drive is not limited.
func (l Limit) Zero() bool { return len(l.Values) == 0 }

// GroupName is the identifier of a drive's throttle group.
func GroupName(key string) string { return "throttle-drive-" + key }

// Group returns the QOM path of the drive's throttle group and its limits,
// with a zero for every limit that is not set.
func (l Limit) Group() (path string, limits map[string]any) {
	limits = map[string]any{}
	for _, n := range limitNames {
		limits[n.group] = l.value(n.key)
	}
	return "/objects/" + GroupName(l.Key), limits
}

// Object is the throttle group as an argument of object-add.
func (l Limit) Object() map[string]any {
	limits := map[string]any{}
	for _, n := range limitNames {
		if v := l.Values[n.key]; v > 0 {
			limits[n.group] = v
		}
	}
	return map[string]any{"qom-type": "throttle-group", "id": GroupName(l.Key), "limits": limits}
}

// Arguments are those of block_set_io_throttle, which wants six limits even
// where they are zero.
func (l Limit) Arguments() map[string]any {
	id := l.Key
	if strings.HasPrefix(id, "virtio") {
		// The disk is a child of the PCI device that bears the identifier.
		id = "/machine/peripheral/" + id + "/virtio-backend"
	}
	args := map[string]any{"id": id}
	for i, n := range limitNames {
		if v := l.value(n.key); i < 6 || v > 0 {
			args[n.key] = v
		}
	}
	return args
}

// value is a limit, where a length of zero means one second.
func (l Limit) value(key string) int64 {
	if v := l.Values[key]; v > 0 || !strings.HasSuffix(key, "_length") {
		return v
	}
	return 1
}
