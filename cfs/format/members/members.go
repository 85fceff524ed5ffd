// Package members reads .members: who is in the cluster, and who answers.
//
// It owns the form of that file. It never writes it, which the file system does, and
// never opens one.
package members

import (
	"encoding/json"
	"fmt"
)

// Members are the nodes of the cluster as one of them sees them.
type Members struct {
	Self    string          // the node that sees them
	Cluster bool            // false: a node of its own, which the rest does not describe
	Quorate bool            // Self belongs to a majority
	Nodes   map[string]Node // by name, Self among them
}

// A Node is a member.
type Node struct {
	Online bool
	IP     string // empty if it is not known
}

// Parse reads the content of the file.
func Parse(content []byte) (Members, error) {
	var file struct {
		Self    string `json:"nodename"`
		Cluster *struct {
			Quorate int `json:"quorate"`
		} `json:"cluster"`
		Nodes map[string]struct {
			Online int    `json:"online"`
			IP     string `json:"ip"`
		} `json:"nodelist"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return Members{}, fmt.Errorf(".members: %w", err)
	}
	m := Members{Self: file.Self, Cluster: file.Cluster != nil, Nodes: map[string]Node{}}
	m.Quorate = m.Cluster && file.Cluster.Quorate != 0
	for name, n := range file.Nodes {
		m.Nodes[name] = Node{Online: n.Online != 0, IP: n.IP}
	}
	return m, nil
}
