package files

import "etcpve/cfs/format/members"

// Members is what .members says of the cluster.
type Members struct {
	Quorate bool
	Online  map[string]bool // every node, true if it answers
}

// Members reads .members. A node without a cluster is its own.
func (t Tree) Members() (Members, error) {
	text, err := t.Read(".members")
	if err != nil {
		return Members{}, err
	}
	m, err := members.Parse([]byte(text))
	switch {
	case err != nil:
		return Members{}, err
	case !m.Cluster:
		return Members{Quorate: true, Online: map[string]bool{m.Self: true}}, nil
	}
	out := Members{Quorate: m.Quorate, Online: map[string]bool{}}
	for name, n := range m.Nodes {
		out.Online[name] = n.Online
	}
	return out, nil
}
