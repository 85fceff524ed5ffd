package guest

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/format/guest"
)

// A Startup is the value of "startup": when a guest starts and stops among
// the guests of its node.
type Startup struct {
	Order   int           // guests with a lower order start first and stop last
	Ordered bool          // false: after all guests that have an order
	Up      time.Duration // how long to wait after its start before the next one starts; 0 is not set
	Down    time.Duration // how long its shutdown may take; 0 is not set
}

var startupForm = regexp.MustCompile(`^(?:(order|up|down)=)?(\d+)$`)

// ParseStartup reads "[order=]N,up=SECONDS,down=SECONDS", each part optional.
func ParseStartup(value string) (Startup, error) {
	var s Startup
	for part := range strings.SplitSeq(value, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		m := startupForm.FindStringSubmatch(part)
		if m == nil {
			return Startup{}, fmt.Errorf("startup: unable to parse %q", part)
		}
		n, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil {
			return Startup{}, fmt.Errorf("startup: %w", err)
		}
		switch m[1] {
		case "up":
			s.Up = time.Duration(n) * time.Second
		case "down":
			s.Down = time.Duration(n) * time.Second
		default:
			s.Order, s.Ordered = int(n), true
		}
	}
	return s, nil
}

// String is the inverse of ParseStartup.
func (s Startup) String() string {
	var parts []string
	if s.Ordered {
		parts = append(parts, "order="+strconv.Itoa(s.Order))
	}
	if s.Up > 0 {
		parts = append(parts, "up="+strconv.Itoa(int(s.Up/time.Second)))
	}
	if s.Down > 0 {
		parts = append(parts, "down="+strconv.Itoa(int(s.Down/time.Second)))
	}
	return strings.Join(parts, ",")
}

// A Step is a guest in the order of starting.
type Step struct {
	Config  *guest.Config
	Startup Startup
}

// StartOrder returns guests in the order in which they start; they stop in
// the reverse order. A startup value that cannot be read counts as none.
func StartOrder(guests []*guest.Config) []Step {
	steps := make([]Step, len(guests))
	for i, c := range guests {
		startup, err := ParseStartup(c.Main.Get("startup"))
		if err != nil {
			startup = Startup{}
		}
		steps[i] = Step{Config: c, Startup: startup}
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Startup.rank(), b.Startup.rank()), cmp.Compare(a.Config.VMID, b.Config.VMID))
	})
	return steps
}

func (s Startup) rank() int {
	if s.Ordered {
		return s.Order
	}
	return math.MaxInt
}

// StartsAtBoot reports whether a guest starts with its node. Templates and
// guests under a lock never do.
func StartsAtBoot(c *guest.Config) bool {
	return c.Main.Get("onboot") == "1" && c.Main.Get("template") != "1" && !c.Main.Has("lock")
}
