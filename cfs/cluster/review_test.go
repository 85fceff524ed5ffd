package cluster

import (
	"strings"
	"testing"

	"etcpve/cfs/format/corosync"
)

func TestAnEditThatWouldHurtIsRefused(t *testing.T) {
	node := func(name string, id, votes uint32) corosync.Node {
		return corosync.Node{Name: name, ID: id, Votes: votes, Addresses: map[int]string{0: "10.0.0." + name}}
	}
	three := []corosync.Node{node("n1", 1, 1), node("n2", 2, 1), node("n3", 3, 1)}
	old := corosync.Definition{Cluster: "lab", Version: 4, Nodes: three}
	for name, c := range map[string]struct {
		d     corosync.Definition
		alive string
		want  string
	}{
		"a new address":            {corosync.Definition{Cluster: "lab", Version: 5, Nodes: three}, "n1 n2", ""},
		"a node less":              {corosync.Definition{Cluster: "lab", Version: 9, Nodes: three[:2]}, "n1 n2", ""},
		"a node without a vote":    {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{three[0], node("n2", 2, 0), node("n3", 3, 0)}}, "n1", ""},
		"the same version":         {corosync.Definition{Cluster: "lab", Version: 4, Nodes: three}, "n1 n2 n3", "must be raised above 4"},
		"another cluster":          {corosync.Definition{Cluster: "pub", Version: 5, Nodes: three}, "n1 n2 n3", "cannot become pub"},
		"without this node":        {corosync.Definition{Cluster: "lab", Version: 5, Nodes: three[1:]}, "n1 n2 n3", "cannot remove itself"},
		"another id":               {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{three[0], node("n2", 7, 1)}}, "n1 n2", "nodeid 2 cannot become 7"},
		"another's id":             {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{three[0], node("n4", 3, 1)}}, "n1 n2", "was that of node n3"},
		"no majority that speaks":  {corosync.Definition{Cluster: "lab", Version: 5, Nodes: append(three[:3:3], node("n4", 4, 1))}, "n1 n2", "2 of 4 votes"},
		"a decider that answers":   {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{node("n1", 1, 3), three[1], three[2]}}, "n1", ""},
		"a decider that does not":  {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{three[0], three[1], node("n3", 3, 3)}}, "n1 n2", "2 of 5 votes"},
		"votes that do not decide": {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{node("n1", 1, 2), three[1], three[2]}}, "n2 n3", ""},
		"nobody with a vote":       {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{node("n1", 1, 0)}}, "n1", "no quorum"},
	} {
		err := follows(old, c.d, "n1", strings.Fields(c.alive), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
