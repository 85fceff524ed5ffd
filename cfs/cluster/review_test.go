package cluster

import (
	"fmt"
	"strings"
	"testing"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/text"
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
		"another id":               {corosync.Definition{Cluster: "lab", Version: 5, Nodes: []corosync.Node{three[0], node("n2", 7, 1)}}, "n1 n2", "n2: nodeid: 2 cannot become 7"},
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

// TestASaveIsReviewed saves definitions on a node that is a cluster of its own: what
// is wrong names its line.
func TestASaveIsReviewed(t *testing.T) {
	m := newMachine(t, 1)
	m.start()
	m.found()
	e, _ := m.tree.Lookup(corosync.File)
	good := strings.Replace(string(e.Data), "config_version: 1", "config_version: 2", 1)
	if good == string(e.Data) {
		t.Fatal(good)
	}
	address := "ring0_addr: " + m.ip.String()
	for _, c := range []struct {
		old, new string
		line     int    // of what is wrong, counted from that of old
		refused  string // how the reason begins; "" for none
		doubtful string
	}{
		{"version: 2", "version: 2", 0, "", ""},
		{"config_version: 2", "config_version: 1", 0, "totem: config_version: 1 must be raised above 1", ""},
		{"nodeid: 1", "nodeid: 4", 0, "node n1: nodeid: 1 cannot become 4", ""},
		{"nodeid: 1", "nodeid: x", 0, "node n1: nodeid: \"x\" is no number", ""},
		{address, address + " ring1_addr:\n127.0.77.2", 0, "node n1: ring1_addr: node 'n1' has 'ring1_addr', but there is no interface number 1", ""},
		{address, "\nring0_addr: nowhere.invalid", 1, "", "node n1: ring0_addr: unable to resolve ring0_addr 'nowhere.invalid' for node 'n1'"},
	} {
		r, line := m.cluster.Review(), 1+c.line+strings.Count(good[:strings.Index(good, c.old)], "\n")
		if said := r.Write([]byte(strings.Replace(good, c.old, c.new, 1))); len(said) > 0 {
			t.Error(said)
		}
		refused, doubtful := r.End()
		for want, got := range map[string][]text.Error{"refused " + c.refused: refused, "doubtful " + c.doubtful: doubtful} {
			_, want, _ = strings.Cut(want, " ")
			switch {
			case want == "" && len(got) == 0:
			case want == "" || len(got) != 1 || !strings.HasPrefix(got[0].Error(), fmt.Sprintf("corosync.conf:%d: %s", line, want)):
				t.Errorf("%s: got %v, want %d: %s", c.new, got, line, want)
			}
		}
	}
}

// TestANodeThatLacksALinkStaysOut lets a node in whose definition would not be one to save.
func TestANodeThatLacksALinkStaysOut(t *testing.T) {
	m := newMachine(t, 1)
	m.start()
	m.found()
	two := map[int]string{0: "127.0.77.2", 1: "127.0.78.2"}
	_, _, err := m.cluster.enter(t.Context(), corosync.Node{Name: "n2", Votes: 1, Addresses: two}, false)
	if err == nil || !strings.Contains(err.Error(), "node 'n2' has 'ring1_addr', but there is no interface number 1") {
		t.Errorf("a link too many: %v", err)
	}
	_, _, err = m.cluster.enter(t.Context(), corosync.Node{Name: "n2", Votes: 1, Addresses: map[int]string{1: "127.0.78.2"}}, false)
	if err == nil || !strings.Contains(err.Error(), "node 'n2' is missing address for interface number 0") {
		t.Errorf("a link too few: %v", err)
	}
	if n := len(m.cluster.Definition().Nodes); n != 1 {
		t.Errorf("%d nodes", n)
	}
}
