package tunnel

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Members are the nodes of the cluster as this one sees them.
type Members struct {
	self  string
	nodes map[string]member
}

type member struct {
	Online int    `json:"online"`
	IP     string `json:"ip"`
}

// ReadMembers reads .members of a tree.
func ReadMembers(tree string) (m Members, err error) {
	text, err := os.ReadFile(filepath.Join(tree, ".members"))
	if err != nil {
		return m, err
	}
	var file struct {
		Self  string            `json:"nodename"`
		Nodes map[string]member `json:"nodelist"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return m, fmt.Errorf(".members: %w", err)
	}
	return Members{self: file.Self, nodes: file.Nodes}, nil
}

// Online refuses a node that is not there.
func (m Members) Online(node string) error {
	at, known := m.nodes[node]
	switch {
	case node == m.self:
		return nil
	case !known:
		return fmt.Errorf("no such cluster node '%s'", node)
	case at.Online == 0:
		return fmt.Errorf("node '%s' is not online", node)
	}
	return nil
}

func (m Members) address(node string) (string, error) {
	if at := m.nodes[node]; at.IP != "" {
		return at.IP, nil
	}
	return "", fmt.Errorf(".members: no address of node '%s'", node)
}
