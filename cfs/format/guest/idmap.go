package guest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// An IDMap maps a range of a container's user or group ids to the host's.
type IDMap struct {
	Kind      string // "u" for users, "g" for groups
	Container uint64
	Host      uint64
	Count     uint64
}

// String returns the map as a raw lxc.idmap setting holds it.
func (m IDMap) String() string {
	return fmt.Sprintf("%s %d %d %d", m.Kind, m.Container, m.Host, m.Count)
}

// What an unprivileged container gets that sets no maps itself.
const (
	firstHostID = 100000
	hostIDs     = 65536
)

var idMapForm = regexp.MustCompile(`^([ug])\s+(\d{1,10})\s+(\d{1,10})\s+(\d{1,10})$`)

// IDMaps returns the maps of a container in the order written. A privileged
// container without maps has none.
func IDMaps(s *Section) ([]IDMap, error) {
	var maps []IDMap
	for _, raw := range s.Raw {
		if raw.Key != "lxc.idmap" {
			continue
		}
		m := idMapForm.FindStringSubmatch(raw.Value)
		if m == nil {
			return nil, fmt.Errorf("failed to parse idmap: %s", raw.Value)
		}
		maps = append(maps, IDMap{m[1], number(m[2]), number(m[3]), number(m[4])})
	}
	if len(maps) == 0 && s.Get("unprivileged") == "1" {
		maps = []IDMap{{"u", 0, firstHostID, hostIDs}, {"g", 0, firstHostID, hostIDs}}
	}
	return maps, nil
}

// number reads at most ten digits, which always fit.
func number(digits string) uint64 {
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// HostID returns the host's id for the container's id 0 of a kind; without a
// map it is 0.
func HostID(maps []IDMap, kind string) uint64 {
	for _, m := range maps {
		if m.Kind == kind && m.Container == 0 {
			return m.Host
		}
	}
	return 0
}

// CheckIDMaps refuses maps in which an id appears twice. Neighbours in the
// order of ids are compared, so it takes n log n steps.
func CheckIDMaps(maps []IDMap) error {
	sides := []struct {
		name  string
		first func(IDMap) uint64
	}{
		{"container", func(m IDMap) uint64 { return m.Container }},
		{"host", func(m IDMap) uint64 { return m.Host }},
	}
	for _, side := range sides {
		for _, kind := range []string{"u", "g"} {
			sorted := slices.DeleteFunc(slices.Clone(maps), func(m IDMap) bool { return m.Kind != kind })
			slices.SortStableFunc(sorted, func(a, b IDMap) int { return cmp.Compare(side.first(a), side.first(b)) })
			for i := 1; i < len(sorted); i++ {
				before, m := sorted[i-1], sorted[i]
				if first := side.first(m); first < side.first(before)+before.Count {
					return fmt.Errorf("invalid map entry '%s': %s %sid %d is also mapped by entry '%s'", m, side.name, kind, first, before)
				}
			}
		}
	}
	return nil
}
