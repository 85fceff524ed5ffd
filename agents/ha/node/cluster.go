package node

import (
	"os"
	"path/filepath"

	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/lrm"
)

// cluster is a manager's place in the cluster. A tree that cannot be read is
// one without quorum.
type cluster struct {
	clock
	files files.Tree
	node  string
}

var (
	_ crm.Cluster = cluster{}
	_ lrm.Cluster = cluster{}
)

// Quorate reports whether this node belongs to the majority.
func (c cluster) Quorate() bool {
	m, err := c.files.Members()
	return err == nil && m.Quorate
}

// Consistent reports whether the cluster file system is there.
func (c cluster) Consistent() bool {
	_, err := os.Stat(filepath.Join(c.files.Root, "nodes", c.node))
	return err == nil
}

// ShutdownPolicy returns the policy of datacenter.cfg, or the default where it
// cannot be read.
func (c cluster) ShutdownPolicy() string {
	s, _ := c.files.Settings() // what could not be read is at its default
	return s.ShutdownPolicy
}
