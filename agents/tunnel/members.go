package tunnel

import (
	"fmt"
	"os"
	"path/filepath"

	"etcpve/cfs/format/members"
)

// Members are the nodes of the cluster as this one sees them.
type Members struct{ members.Members }

// ReadMembers reads .members of a tree.
func ReadMembers(tree string) (m Members, err error) {
	text, err := os.ReadFile(filepath.Join(tree, ".members"))
	if err == nil {
		m.Members, err = members.Parse(text)
	}
	return m, err
}

// Online refuses a node that is not there.
func (m Members) Online(node string) error {
	at, known := m.Nodes[node]
	switch {
	case node == m.Self:
		return nil
	case !known:
		return fmt.Errorf("no such cluster node '%s'", node)
	case !at.Online:
		return fmt.Errorf("node '%s' is not online", node)
	}
	return nil
}

func (m Members) address(node string) (string, error) {
	if at := m.Nodes[node]; at.IP != "" {
		return at.IP, nil
	}
	return "", fmt.Errorf(".members: no address of node '%s'", node)
}
