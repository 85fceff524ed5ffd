package files

import (
	"encoding/json"
	"fmt"

	"etcpve/agents/ha"
)

// Members is what .members says of the cluster.
type Members struct {
	Quorate bool
	Online  map[string]bool // every node, true if it answers
}

// Members reads .members. A node without a cluster is its own.
func (t Tree) Members() (Members, error) {
	var m struct {
		Name    string `json:"nodename"`
		Cluster *struct {
			Quorate ha.Flag `json:"quorate"`
		} `json:"cluster"`
		Nodes map[string]struct {
			Online ha.Flag `json:"online"`
		} `json:"nodelist"`
	}
	text, err := t.Read(".members")
	if err != nil {
		return Members{}, err
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return Members{}, fmt.Errorf(".members: %w", err)
	}
	if m.Cluster == nil {
		return Members{Quorate: true, Online: map[string]bool{m.Name: true}}, nil
	}
	out := Members{Quorate: bool(m.Cluster.Quorate), Online: map[string]bool{}}
	for name, n := range m.Nodes {
		out.Online[name] = bool(n.Online)
	}
	return out, nil
}
