package virtual

import (
	"bytes"
	"fmt"

	"etcpve/cfs/layout"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
)

// A Member is one node of the cluster.
type Member struct {
	Name   string
	ID     int
	Online bool
	IP     string
}

// Cluster is what .members and .version say of the cluster. Without nodes it is
// a standalone node.
type Cluster struct {
	Name    string
	Config  int // config_version of corosync.conf
	Change  int // rises with each change of what is said here
	Quorate bool
	Nodes   []Member
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Members renders .members, as node sees it.
func Members(node string, c Cluster) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"nodename\": %q,\n\"version\": %d", node, c.Change)
	if len(c.Nodes) == 0 {
		b.WriteString("\n}\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, ",\n\"cluster\": { \"name\": %q, \"version\": %d, \"nodes\": %d, \"quorate\": %d },\n\"nodelist\": {\n",
		c.Name, c.Config, len(c.Nodes), number(c.Quorate))
	for i, n := range c.Nodes {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "  %q: { \"id\": %d, \"online\": %d", n.Name, n.ID, number(n.Online))
		if n.IP != "" {
			fmt.Fprintf(&b, ", \"ip\": %q", n.IP)
		}
		b.WriteByte('}')
	}
	b.WriteString("\n  }\n}\n")
	return b.Bytes()
}

// Guests renders .vmlist.
func Guests(version uint64, guests []tree.Guest) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"version\": %d", version)
	for i, g := range guests {
		if i == 0 {
			b.WriteString(",\n\"ids\": {")
		} else {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n\"%d\": { \"node\": %q, \"type\": %q, \"version\": %d }", g.VMID, g.Node, string(g.Kind), g.Version)
	}
	if len(guests) > 0 {
		b.WriteByte('}')
	}
	b.WriteString("\n\n}\n")
	return b.Bytes()
}

// Versions renders .version: the counters of everything that is observed.
func Versions(node string, start int64, clusterChange int, guests uint64, counters []tree.Counter, values []status.Value) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"starttime\": %d,\n\"clinfo\": %d,\n\"vmlist\": %d,\n", start, clusterChange, guests)
	for _, c := range counters {
		fmt.Fprintf(&b, "%q: %d,\n", c.Path, c.N)
	}
	b.WriteString("\"kvstore\": {\n")
	nodes := []string{node}
	byNode := map[string][]status.Value{}
	for _, v := range values {
		if _, seen := byNode[v.Node]; !seen && v.Node != node {
			nodes = append(nodes, v.Node)
		}
		byNode[v.Node] = append(byNode[v.Node], v)
	}
	for i, n := range nodes {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "%q: {\n", n)
		for j, v := range byNode[n] {
			if j > 0 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "%q: %d", v.Key, v.Counter)
		}
		b.WriteString("}\n")
	}
	b.WriteString("}\n}\n")
	return b.Bytes()
}

// mirror describes the directory of a View that shows the paths of the tree.
func mirror(path string, t int64) Info {
	return Info{Mode: layout.Mode(path, true), Dir: true, Time: t}
}

// linkAt returns the link of the local node at path, if it is one: mirrors of
// the tree have the same links as the root.
func linkAt(node, path string) (Info, bool) {
	for _, l := range layout.Links(node) {
		if l.Name == path {
			info, _ := Link(l.Target).Stat("")
			return info, true
		}
	}
	return Info{}, false
}
