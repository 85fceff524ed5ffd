package firewall

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	fw "etcpve/cfs/format/firewall"
)

// A logger makes rules that log packets. The reader of the log finds guest,
// level and chain in the prefix: ":100:6:tap100i0-IN: policy DROP: ".
type logger struct {
	limit *limited // nil: every packet
}

// noLog is the level of a rule or policy that does not log.
const noLog = "nolog"

// longestPrefix is the kernel's limit for the prefix of a logged packet.
const longestPrefix = 63

// newLogger reads the option log_ratelimit of cluster.fw: whether there is a
// limit, and then rate and burst.
func newLogger(cluster *fw.Document) logger {
	l := limited{rate: "1/second", burst: 5}
	for part := range strings.SplitSeq(option(cluster, "log_ratelimit", "1"), ",") {
		key, value, named := strings.Cut(part, "=")
		if !named {
			key, value = "enable", part
		}
		switch key {
		case "enable":
			if slices.Contains([]string{"0", "no", "off", "false"}, value) {
				return logger{}
			}
		case "rate":
			l.rate = value
		case "burst":
			l.burst, _ = strconv.Atoi(value)
		}
	}
	l.possible()
	return logger{limit: &l}
}

// seconds of the units of a rate.
var seconds = map[string]int{"second": 1, "minute": 60, "hour": 60 * 60, "day": 24 * 60 * 60}

// possible brings a limit into what the kernel can count: ten thousandths of a
// second between packets, of which a burst may take up 32 bits, and at most
// 10,000 packets.
func (l *limited) possible() {
	const scale = 10000
	count, unit, _ := strings.Cut(l.rate, "/")
	n, err := strconv.Atoi(count)
	if err != nil || n > scale*seconds[unit] {
		n = scale * seconds[unit]
	}
	l.rate = strconv.Itoa(n) + "/" + unit
	between := scale * seconds[unit] / n
	l.burst = max(min(l.burst, scale, math.MaxUint32/between), 1)
}

// log appends a rule to chain, which has that name, that logs at a level the
// packets for which all conditions hold.
func (l logger) log(c *Chain, name string, vmid uint32, level, message string, conditions ...Condition) {
	number := slices.Index(fw.LogLevels, level)
	if level == noLog || number < 0 {
		return
	}
	prefix := fmt.Sprintf(":%d:%d:%s: %s: ", vmid, number, name, message)
	if l.limit != nil {
		conditions = append(slices.Clip(conditions), *l.limit)
	}
	prefix = prefix[:min(len(prefix), longestPrefix)]
	c.add(Target{Name: "NFLOG", Options: `--nflog-prefix "` + prefix + `"`}, conditions...)
}
