package corosync

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/text"
)

// MaxLinks is how many addresses a node may have.
const MaxLinks = 8

// A Definition is what the file says of the cluster.
type Definition struct {
	Cluster string // name
	Version uint64 // config_version: every change raises it
	Nodes   []Node // by id
	// MaxVoters is how many nodes may vote on the order of changes; 0: not said.
	MaxVoters int
	// Links are the numbers of the links that some node has, the preferred one first:
	// that of the highest knet_link_priority, among equals that of the lowest number.
	Links []int
	// IPVersion is how a name becomes an address: ipv4, ipv6, ipv4-6 or ipv6-4.
	IPVersion string
}

// mostVoters is the most that quorum.max_voters may ask for: each more makes every
// save wait for more disks.
const mostVoters = 7

// A Node is one member by definition.
type Node struct {
	Name      string
	ID        uint32
	Votes     uint32
	Addresses map[int]string // by link number; address or host name
	Witness   bool           // votes, and is no node: it comes from quorum.device
}

// Witness is the name under which the quorum device takes part.
const Witness = "qdevice"

// Node returns the member with the given name.
func (d Definition) Node(name string) (Node, bool) {
	i := slices.IndexFunc(d.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return d.Nodes[i], true
}

// Address returns the address of the node's lowest link.
func (n Node) Address() string {
	for link := range MaxLinks {
		if a := n.Addresses[link]; a != "" {
			return a
		}
	}
	return ""
}

// Decider returns the node that has more votes than all others together, if there is
// one: the majority of the votes is where it is.
func (d Definition) Decider() (Node, bool) {
	all, most := uint64(0), Node{}
	for _, n := range d.Nodes {
		all += uint64(n.Votes)
		if n.Votes > most.Votes {
			most = n
		}
	}
	return most, most.Votes > 1 && 2*uint64(most.Votes) > all
}

// Counted returns how many votes of a node count. More than one only do if they decide
// by themselves: each voter in the order of changes counts as one.
func (d Definition) Counted(n Node) uint32 {
	if _, ok := d.Decider(); ok {
		return n.Votes
	}
	return min(n.Votes, 1)
}

// Addresses returns those of a node, that of the preferred link first.
func (d Definition) Addresses(n Node) (list []string) {
	for _, link := range d.Links {
		if a := n.Addresses[link]; a != "" {
			list = append(list, a)
		}
	}
	return list
}

// Define returns the view of a parsed file. Its error is a *text.Error that
// names the entry which makes no sense.
func Define(root *Section) (d Definition, err error) {
	totem := root.Sections["totem"]
	if totem == nil {
		return d, &text.Error{File: File, Key: "totem", Message: "section is missing"}
	}
	d.Cluster, d.IPVersion = totem.Entries["cluster_name"], totem.Entries["ip_version"]
	if d.Version, err = number[uint64](totem, "totem", "config_version", 64); err != nil {
		return d, err
	}
	list := root.Sections["nodelist"]
	if list == nil || len(list.Repeated["node"]) == 0 {
		return d, &text.Error{File: File, Key: "nodelist", Message: "no node in it"}
	}
	for name, block := range list.Repeated["node"] {
		n, err := node(name, block)
		if err != nil {
			return d, err
		}
		d.Nodes = append(d.Nodes, n)
	}
	if w, ok, err := witness(root); err != nil {
		return d, err
	} else if ok {
		d.Nodes = append(d.Nodes, w)
	}
	if d.MaxVoters, err = maxVoters(root); err != nil {
		return d, err
	}
	if d.Links, err = d.preferred(totem); err != nil {
		return d, err
	}
	slices.SortFunc(d.Nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return d, d.distinct(root)
}

// preferred sorts the links in use.
func (d Definition) preferred(totem *Section) (list []int, err error) {
	priority := map[int]uint32{}
	for _, n := range d.Nodes {
		for link := range n.Addresses {
			priority[link] = 0
		}
	}
	for name, block := range totem.Repeated["interface"] {
		link, err := strconv.Atoi(name)
		if _, used := priority[link]; err != nil || !used || block.Entries["knet_link_priority"] == "" {
			continue
		}
		priority[link], err = number[uint32](block, "interface "+name, "knet_link_priority", 32)
		if err == nil && priority[link] > mostPriority {
			err = block.wrong("interface "+name, "knet_link_priority", fmt.Sprintf("must be 0 to %d", mostPriority))
		}
		if err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(priority), func(a, b int) int {
		return cmp.Or(cmp.Compare(priority[b], priority[a]), cmp.Compare(a, b))
	}), nil
}

// mostPriority is the highest that a link can have.
const mostPriority = 255

func maxVoters(root *Section) (int, error) {
	quorum := root.Sections["quorum"]
	if quorum == nil || quorum.Entries["max_voters"] == "" {
		return 0, nil
	}
	n, err := number[uint32](quorum, "quorum", "max_voters", 32)
	if err == nil && (n == 0 || n > mostVoters) {
		err = quorum.wrong("quorum", "max_voters", fmt.Sprintf("must be 1 to %d", mostVoters))
	}
	return int(n), err
}

// device returns the section of the quorum device, nil if there is none.
func (s *Section) device() *Section {
	if quorum := s.Sections["quorum"]; quorum != nil {
		return quorum.Sections["device"]
	}
	return nil
}

// witness returns the quorum device as a member. One without a nodeid is of
// another kind (corosync-qnetd), with which nobody here can speak: it is kept in
// the file and has no vote.
func witness(root *Section) (n Node, ok bool, err error) {
	block := root.device()
	if block == nil || block.Entries["nodeid"] == "" {
		return n, false, nil
	}
	net := block.Sections["net"]
	if block.Entries["model"] != "net" || net == nil || net.Entries["host"] == "" {
		return n, false, block.wrong("device", "model", "must be net, with a section net that names the host")
	}
	n = Node{Name: Witness, Votes: 1, Addresses: map[int]string{0: canonical(net.Entries["host"])}, Witness: true}
	if n.ID, err = number[uint32](block, "device", "nodeid", 32); err != nil {
		return n, false, err
	}
	if _, given := block.Entries["votes"]; given {
		if n.Votes, err = number[uint32](block, "device", "votes", 32); err != nil {
			return n, false, err
		}
	}
	return n, true, nil
}

func node(name string, block *Section) (n Node, err error) {
	n = Node{Name: name, Votes: 1, Addresses: map[int]string{}}
	if n.ID, err = number[uint32](block, "node "+name, "nodeid", 32); err != nil {
		return n, err
	}
	if n.ID == 0 {
		return n, block.wrong("node "+name, "nodeid", "must not be 0")
	}
	if _, ok := block.Entries["quorum_votes"]; ok {
		if n.Votes, err = number[uint32](block, "node "+name, "quorum_votes", 32); err != nil {
			return n, err
		}
	}
	for link := range MaxLinks {
		if a, ok := block.Entries[ring(link)]; ok {
			n.Addresses[link] = canonical(a)
		}
	}
	if len(n.Addresses) == 0 {
		return n, block.wrong("node "+name, "ring0_addr", "no address")
	}
	return n, nil
}

// canonical returns the one way to write an address; a name stays what it is.
func canonical(address string) string {
	if a, err := netip.ParseAddr(address); err == nil {
		return a.String()
	}
	return address
}

// distinct refuses two nodes with one id or one address, or the witness's name.
func (d Definition) distinct(root *Section) error {
	ids, addresses := map[uint32]string{}, map[string]string{}
	nodes := root.Sections["nodelist"].Repeated["node"]
	for _, n := range d.Nodes {
		block := nodes[n.Name]
		if n.Witness {
			if block != nil {
				return block.wrong("node "+n.Name, "name", "is that of the quorum device")
			}
			block = root.device()
		}
		if other, ok := ids[n.ID]; ok {
			return block.wrong("node "+n.Name, "nodeid", fmt.Sprintf("%d is also the id of node %s", n.ID, other))
		}
		ids[n.ID] = n.Name
		for _, link := range slices.Sorted(maps.Keys(n.Addresses)) {
			a := n.Addresses[link]
			if other, ok := addresses[a]; ok {
				return block.wrong("node "+n.Name, ring(link), fmt.Sprintf("%s is also an address of node %s", a, other))
			}
			addresses[a] = n.Name
		}
	}
	return nil
}

func ring(link int) string { return "ring" + strconv.Itoa(link) + "_addr" }

func (s *Section) wrong(block, key, message string) error {
	return &text.Error{File: File, Line: s.at(key), Key: block + ": " + key, Message: message}
}

// at returns the line of an entry, or that where the section begins.
func (s *Section) at(key string) int { return cmp.Or(s.lines[key], s.line) }

// LineOf returns the line of an entry that the key of an error names, such as
// "totem: config_version" or "node n1: nodeid", as near as there is one; 0 for none.
func (s *Section) LineOf(key string) int {
	block, entry, _ := strings.Cut(key, ": ")
	if node, ok := strings.CutPrefix(block, "node "); ok {
		if list := s.Sections["nodelist"]; list != nil && list.Repeated["node"][node] != nil {
			return list.Repeated["node"][node].at(entry)
		}
		block = "nodelist"
	}
	if section := s.Sections[block]; section != nil {
		return section.at(entry)
	}
	return 0
}

func number[T uint32 | uint64](s *Section, block, key string, bits int) (T, error) {
	v, ok := s.Entries[key]
	if !ok {
		return 0, s.wrong(block, key, "is missing")
	}
	n, err := strconv.ParseUint(v, 10, bits)
	if err != nil {
		return 0, s.wrong(block, key, fmt.Sprintf("%q is no number from 0 on", v))
	}
	return T(n), nil
}

// New returns the definition of a new cluster of one node.
func New(cluster string, first Node) *Section {
	root := newSection(1)
	for name, entries := range map[string]map[string]string{
		"logging": {"debug": "off", "to_syslog": "yes"},
		"quorum":  {"provider": "corosync_votequorum"},
		"totem":   {"cluster_name": cluster, "config_version": "0", "ip_version": "ipv4-6", "link_mode": "passive", "secauth": "on", "version": "2"},
	} {
		s := newSection(1)
		s.Entries = entries
		root.Sections[name] = s
	}
	totem := root.Sections["totem"]
	totem.Repeated["interface"] = map[string]*Section{}
	for link := range first.Addresses {
		s := newSection(1)
		s.Entries["linknumber"] = strconv.Itoa(link)
		totem.Repeated["interface"][strconv.Itoa(link)] = s
	}
	root.Sections["nodelist"] = newSection(1)
	root.Add(first)
	return root
}

// Add puts a node into the definition, replacing one of the same name, and
// raises its version.
func (s *Section) Add(n Node) {
	list := s.Sections["nodelist"]
	if list.Repeated["node"] == nil {
		list.Repeated["node"] = map[string]*Section{}
	}
	block := newSection(0)
	block.Entries["name"] = n.Name
	block.Entries["nodeid"] = strconv.FormatUint(uint64(n.ID), 10)
	block.Entries["quorum_votes"] = strconv.FormatUint(uint64(n.Votes), 10)
	for link, a := range n.Addresses {
		block.Entries[ring(link)] = a
	}
	list.Repeated["node"][n.Name] = block
	s.Raise()
}

// SetWitness makes n the quorum device and raises the version.
func (s *Section) SetWitness(n Node) {
	net := newSection(0)
	net.Entries = map[string]string{"algorithm": "ffsplit", "host": n.Address(), "tls": "on"}
	device := newSection(0)
	device.Entries = map[string]string{"model": "net", "nodeid": strconv.FormatUint(uint64(n.ID), 10), "votes": strconv.FormatUint(uint64(n.Votes), 10)}
	device.Sections["net"] = net
	if s.Sections["quorum"] == nil {
		s.Sections["quorum"] = newSection(0)
	}
	s.Sections["quorum"].Sections["device"] = device
	s.Raise()
}

// Remove takes a node, or the quorum device, out of the definition and raises its
// version. It reports whether it was there.
func (s *Section) Remove(name string) bool {
	if name == Witness && s.device() != nil {
		delete(s.Sections["quorum"].Sections, "device")
		s.Raise()
		return true
	}
	nodes := s.Sections["nodelist"].Repeated["node"]
	if nodes[name] == nil {
		return false
	}
	delete(nodes, name)
	s.Raise()
	return true
}

// SetTotem writes an entry of the section totem.
func (s *Section) SetTotem(key, value string) { s.Sections["totem"].Entries[key] = value }

// SetPriority writes which link is preferred where there are several.
func (s *Section) SetPriority(link, priority int) {
	if i := s.Sections["totem"].Repeated["interface"][strconv.Itoa(link)]; i != nil {
		i.Entries["knet_link_priority"] = strconv.Itoa(priority)
	}
}

// Raise makes the definition newer than it was.
func (s *Section) Raise() {
	totem := s.Sections["totem"]
	version, err := strconv.ParseUint(totem.Entries["config_version"], 10, 64)
	if err != nil {
		version = 0 // it was checked by Define
	}
	totem.Entries["config_version"] = strconv.FormatUint(version+1, 10)
}
