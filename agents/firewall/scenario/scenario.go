// Package scenario runs packets through the rule set of a directory of rule
// files and compares what becomes of them with what is written there.
//
// It owns the form of such directories: cluster.fw, host.fw, VMID.fw and a file
// "tests" with one packet a line,
//
//	{ from => 'outside', to => 'vm100', dport => 80, action => 'ACCEPT' }
//
// for a fixed set of guests on a fixed node. It never looks at the machine.
package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/facts"
	"etcpve/agents/firewall/way"
	fw "etcpve/cfs/format/firewall"
)

// self is the name of the node of every scenario; its address is selfAddress.
const (
	self        = "proxself"
	selfAddress = "172.16.1.2"
)

// A Scenario is a directory of rule files and packets.
type Scenario struct {
	Dir   string
	Input firewall.Input
	Tests []Test
	rules *firewall.Ruleset
	zones way.Map
}

// Load reads a directory. The cluster's networks are in corosync.conf in the
// directory or beside it, and may be missing.
func Load(dir string) (*Scenario, error) {
	content, err := os.ReadFile(filepath.Join(dir, "tests"))
	if err != nil {
		return nil, err
	}
	s := &Scenario{Dir: dir}
	if s.Tests, err = parseTests(string(content)); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "tests"), err)
	}
	if s.Input, err = input(dir); err != nil {
		return nil, err
	}
	s.zones = way.Map{Guests: s.Input.Guests}
	s.rules, _ = firewall.Compile(s.Input)
	return s, nil
}

// Rules returns the rule set under which the packets are sent.
func (s *Scenario) Rules() *firewall.Ruleset { return s.rules }

func input(dir string) (in firewall.Input, err error) {
	if in.Cluster, err = document(dir, fw.Cluster, "cluster.fw"); err != nil {
		return in, err
	}
	if in.Host, err = document(dir, fw.Host, "host.fw"); err != nil {
		return in, err
	}
	in.Guests = guests()
	for i, g := range in.Guests {
		name := strconv.FormatUint(uint64(g.VMID), 10) + ".fw"
		if in.Guests[i].Rules, err = document(dir, fw.Guest, name); err != nil {
			return in, err
		}
	}
	in.Node.LocalNetworks = []netip.Prefix{netip.MustParsePrefix("172.16.1.0/24")}
	for _, place := range []string{dir, filepath.Dir(filepath.Clean(dir))} {
		if content, err := os.ReadFile(filepath.Join(place, "corosync.conf")); err == nil {
			cluster, err := facts.ParseCluster(string(content))
			if err != nil {
				return in, err
			}
			in.Node.Transport = cluster.Transport
			in.Node.Rings = cluster.Rings(self, nil)
			break
		}
	}
	return in, nil
}

// document reads a rule file, or returns nil if there is none.
func document(dir string, scope fw.Scope, name string) (*fw.Document, error) {
	path := filepath.Join(dir, name)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return fw.Parse(scope, path, string(content)), nil
}

// guests returns the guests of the node, all with the firewall on.
func guests() []firewall.Guest {
	nic := func(n int, mac, bridge string, addresses ...netip.Prefix) firewall.NIC {
		return firewall.NIC{Number: n, MAC: mac, Bridge: bridge, Firewall: true, Addresses: addresses}
	}
	return []firewall.Guest{
		{VMID: 100, NICs: []firewall.NIC{
			nic(0, "0E:0B:38:B8:B3:21", "vmbr0"),
			nic(1, "0E:0B:38:B9:B4:21", "vmbr1"),
			nic(2, "0E:0B:38:BA:B4:21", "vmbr2"),
		}},
		{VMID: 101, NICs: []firewall.NIC{nic(0, "0E:0B:38:B8:B3:22", "vmbr0")}},
		{VMID: 110, NICs: []firewall.NIC{nic(0, "0E:0B:38:B8:B4:21", "vmbr1")}},
		{VMID: 200, Container: true, NICs: []firewall.NIC{
			nic(0, "0E:18:24:41:2C:43", "vmbr0", netip.MustParsePrefix("10.0.200.1/24")),
		}},
		{VMID: 201, Container: true, NICs: []firewall.NIC{
			nic(0, "0E:18:24:41:2C:44", "vmbr0", netip.MustParsePrefix("10.0.200.2/24")),
		}},
	}
}

// A Result is what became of one test.
type Result struct {
	Test Test
	Err  error // nil if the packet fared as written
}

// Run sends the packet of every test.
func (s *Scenario) Run() []Result {
	results := make([]Result, len(s.Tests))
	for i, t := range s.Tests {
		results[i] = Result{t, s.check(t)}
	}
	return results
}

// unsaid are the zones that a test stands for where it names none.
var unsaid = []string{"host", "outside", "nfvm", "vm100", "ct200"}

// alternatives returns the zones for a name that may be missing; other is the
// name at the other end.
func alternatives(name, other string) (list []string) {
	if name != "" {
		return []string{name}
	}
	for _, zone := range unsaid {
		if zone != other {
			list = append(list, zone)
		}
	}
	return list
}

// Ways returns the pairs of zones between which the test's packet is sent.
func (t Test) Ways() (list [][2]string) {
	for _, from := range alternatives(t.From, t.To) {
		for _, to := range alternatives(t.To, t.From) {
			list = append(list, [2]string{from, to})
		}
	}
	return list
}

func (s *Scenario) check(t Test) error {
	var wrong []string
	for _, way := range t.Ways() {
		got, err := s.send(t, way[0], way[1])
		if err != nil {
			return err
		}
		if got != t.Action {
			wrong = append(wrong, fmt.Sprintf("from %s to %s: %s, want %s", way[0], way[1], got, t.Action))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

func (s *Scenario) send(t Test, fromName, toName string) (firewall.Verdict, error) {
	from, err := s.zones.Zone(fromName)
	if err != nil {
		return "", err
	}
	to, err := s.zones.Zone(toName)
	if err != nil {
		return "", err
	}
	p, err := t.Packet(fromName, toName)
	if err != nil {
		return "", err
	}
	verdict, _ := way.Send(s.rules, p, from, to, nil)
	return verdict, nil
}
