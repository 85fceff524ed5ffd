package guest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"etcpve/cfs/format/guest"
)

// Current is the name under which the running state stands in a tree.
const Current = "current"

// A Snapshot is one node of a guest's snapshot tree.
type Snapshot struct {
	Name        string
	Parent      string // "" for a root
	Depth       int
	Time        int64 // seconds since 1970; 0 for the running state
	Description string
	State       string // "" for a complete snapshot, else prepare or delete
	Memory      bool   // the machine's state was saved too
}

// Tree returns the snapshots and the running state, parents before children,
// children by time, then by name; the running state comes last among its
// siblings. A parent that is gone, or a circle of parents, makes a root.
func Tree(c *guest.Config) []Snapshot {
	nodes := []Snapshot{{Name: Current, Parent: c.Main.Get("parent"), Description: c.Main.Get("description")}}
	for _, name := range slices.Sorted(maps.Keys(c.Snapshots)) {
		s := c.Snapshots[name]
		time, err := strconv.ParseInt(s.Get("snaptime"), 10, 64)
		if err != nil {
			time = 0
		}
		nodes = append(nodes, Snapshot{
			Name: name, Parent: s.Get("parent"), Time: time,
			Description: s.Get("description"), State: s.Get("snapstate"), Memory: s.Has("vmstate"),
		})
	}
	for i := range nodes {
		if c.Snapshots[nodes[i].Parent] == nil || circular(c, nodes[i].Name) {
			nodes[i].Parent = ""
		}
	}
	slices.SortStableFunc(nodes, func(a, b Snapshot) int {
		last := cmp.Compare(boolInt(a.Name == Current), boolInt(b.Name == Current))
		return cmp.Or(last, cmp.Compare(a.Time, b.Time), cmp.Compare(a.Name, b.Name))
	})
	return below(nodes, "", 0, nil)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// circular reports whether following parents from a snapshot leads back to it.
func circular(c *guest.Config, name string) bool {
	at := name
	for range len(c.Snapshots) {
		s := c.Snapshots[at]
		if s == nil {
			return false
		}
		if at = s.Get("parent"); at == name {
			return true
		}
	}
	return false
}

func below(nodes []Snapshot, parent string, depth int, out []Snapshot) []Snapshot {
	for _, n := range nodes {
		if n.Parent == parent {
			n.Depth = depth
			out = append(out, n)
			if n.Name != Current {
				out = below(nodes, n.Name, depth+1, out)
			}
		}
	}
	return out
}
