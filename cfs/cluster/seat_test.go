package cluster

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/membership"
	"etcpve/fixtures/loopback"
)

// redefine saves a new definition on a machine, by pairs of old and new text.
func (m *machine) redefine(pairs ...string) {
	m.t.Helper()
	e, ok := m.tree.Lookup(corosync.File)
	if !ok {
		m.t.Fatal("no definition")
	}
	version := m.cluster.Definition().Version
	text := strings.NewReplacer(append(pairs, fmt.Sprintf("config_version: %d\n", version), fmt.Sprintf("config_version: %d\n", version+1))...).Replace(string(e.Data))
	m.save(corosync.File, text)
}

// listens reports whether this process listens at all addresses, for both streams and
// gossip, or at none.
func listens(all []string, want bool) func() bool {
	return func() bool {
		for _, address := range all {
			for _, port := range []uint16{port, port + 1} {
				conn, err := net.Dial("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
				if err == nil {
					conn.Close()
				}
				if want != (err == nil) {
					return false
				}
			}
		}
		return true
	}
}

// reaches reports whether the streams from one machine go to a node by an address.
func reaches(from *machine, address string) func() bool {
	return func() bool {
		for _, n := range from.cluster.Report().Nodes {
			if slices.ContainsFunc(n.Links, func(l Link) bool { return l.InUse && l.Address == address }) {
				return true
			}
		}
		return false
	}
}

// TestLinksComeAndGo adds a link to a cluster that runs, prefers it, and removes it
// again. Nobody stops speaking for it.
func TestLinksComeAndGo(t *testing.T) {
	a, b, c := three(t)
	all := []*machine{a, b, c}
	var before []*membership.Gossip
	for _, m := range all {
		before = append(before, m.cluster.speaker())
	}
	var add, remove, second []string // addresses on the second link
	for i, m := range all {
		second = append(second, loopback.Address(byte(101+i)).String())
		add = append(add, fmt.Sprintf("ring0_addr: %s\n", m.ip), fmt.Sprintf("ring0_addr: %s\n ring1_addr: %s\n", m.ip, second[i]))
		remove = append(remove, fmt.Sprintf(" ring1_addr: %s\n", second[i]), "")
	}
	const first = "linknumber: 0\n  }\n"
	const link = "interface {\n    linknumber: 1\n    knet_link_priority: 9\n  }\n"
	b.redefine(append(add, first, first+link)...)
	a.eventually("listening on the new link", listens(second, true))
	a.eventually("going to n2 by the new link", reaches(a, second[1]))
	a.eventually("going to n3 by the new link", reaches(a, second[2]))
	c.eventually("coming by it", reaches(c, second[0]))
	c.redefine(append(remove, link, "")...)
	a.eventually("not listening on the old link", listens(second, false))
	a.eventually("going by the link that is left", reaches(a, c.ip.String()))
	c.save("after", "x")
	for i, m := range all {
		m.eventually("hearing of the save", m.has("after", "x"))
		if m.cluster.speaker() != before[i] {
			t.Errorf("%s was away", m.name)
		}
		if trouble := m.cluster.Report().Trouble; trouble != "" {
			t.Errorf("%s: %s", m.name, trouble)
		}
	}
}

// TestANodeMoves gives a node another address while the cluster runs, then a name that
// nobody knows, then its old address.
func TestANodeMoves(t *testing.T) {
	a, b, c := three(t)
	here, there := c.ip.String(), loopback.Address(103).String()
	a.redefine(here, there)
	a.eventually("reaching n3 at its new place", reaches(a, there))
	b.save("moved", "x")
	c.eventually("hearing of it", c.has("moved", "x"))
	a.eventually("hearing n3", func() bool { return slices.Contains(a.cluster.Alive(), "n3") })
	b.redefine(there, "nowhere.invalid")
	c.eventually("saying what is wrong", func() bool { return strings.Contains(c.cluster.Report().Trouble, "nowhere.invalid") })
	b.save("lost", "x")
	c.eventually("hearing of it where it was", c.has("lost", "x"))
	b.redefine("nowhere.invalid", here)
	a.eventually("reaching n3 at its old place", reaches(a, here))
	c.save("back", "x")
	a.eventually("hearing n3", a.has("back", "x"))
	c.eventually("having nothing to say", func() bool { return c.cluster.Report().Trouble == "" })
}
