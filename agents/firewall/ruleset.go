// Package firewall turns the rule files of the cluster, of a node and of its
// guests into the packet filter of that node.
//
// Compile is pure: documents, guests and facts about the node go in, a Ruleset
// comes out. A Ruleset is data. It can be written in the syntax of
// iptables-restore, ebtables-restore and ipset restore, and Send asks the same
// data what becomes of a packet, so that what is tested is what is applied.
// Chains and sets have the names that Proxmox VE gives them.
//
// The package owns the meaning of the rules. It never parses a rule file (that
// is cfs/format/firewall) and never touches the kernel (that is its part
// iptables).
package firewall

import (
	"maps"
	"slices"
	"strings"
)

// A Ruleset is everything a node's kernel has to hold for the firewall. The
// zero value stands for a firewall that is switched off.
type Ruleset struct {
	Enabled bool
	Sets    []Set     // sorted by name
	Tables  []Table   // in the order of the families, filter before raw
	Kernel  []Setting // sorted by name
}

// A Family is a protocol family with tables of its own.
type Family int

// The families.
const (
	IPv4   Family = 4
	IPv6   Family = 6
	Bridge Family = 2 // layer 2: frames as ebtables sees them
)

// A Table holds the firewall's chains in one table of the kernel.
type Table struct {
	Family Family
	Name   string // filter or raw
	Chains map[string]Chain
}

// A Chain is a list of rules; a packet meets them in order.
type Chain []Rule

// A Hook sends what passes one of the kernel's own chains through a chain of
// the firewall.
type Hook struct{ From, To string }

// hooks of each table. A hook is in place if and only if its chain exists.
var hooks = map[Family]map[string][]Hook{
	IPv4: ipHooks,
	IPv6: ipHooks,
	Bridge: {
		"filter": {{"FORWARD", "PVEFW-FORWARD"}},
	},
}

var ipHooks = map[string][]Hook{
	"filter": {{"INPUT", "PVEFW-INPUT"}, {"OUTPUT", "PVEFW-OUTPUT"}, {"FORWARD", "PVEFW-FORWARD"}},
	"raw":    {{"PREROUTING", "PVEFW-PREROUTING"}},
}

// Hooks returns the hooks of the table's chains.
func (t Table) Hooks() (list []Hook) {
	for _, h := range hooks[t.Family][t.Name] {
		if _, ok := t.Chains[h.To]; ok {
			list = append(list, h)
		}
	}
	return list
}

// Names returns the names of the table's chains, sorted.
func (t Table) Names() []string { return slices.Sorted(maps.Keys(t.Chains)) }

// Table returns a table of the rule set, empty if the rule set has none such.
func (r *Ruleset) Table(family Family, name string) Table {
	for _, t := range r.Tables {
		if t.Family == family && t.Name == name {
			return t
		}
	}
	return Table{Family: family, Name: name}
}

// Set returns the IP set of that name.
func (r *Ruleset) Set(name string) (Set, bool) {
	i, ok := slices.BinarySearchFunc(r.Sets, name, func(s Set, name string) int {
		return strings.Compare(s.Name, name)
	})
	if !ok {
		return Set{}, false
	}
	return r.Sets[i], true
}

// A Setting is a value below /proc/sys.
type Setting struct{ Name, Value string } // name with slashes: net/bridge/bridge-nf-call-iptables

// A Rule applies its target to the packets for which all conditions hold.
type Rule struct {
	Conditions []Condition
	Target     Target
}

// A Condition is one part of a rule. Its text and its meaning stay together.
type Condition interface {
	// String returns the condition in the syntax of the table's tool.
	String() string

	// Holds reports whether a packet fulfils the condition.
	Holds(p *Packet, r *Ruleset) bool
}

// A Target says what happens to a packet that a rule is for.
type Target struct {
	Goto    bool   // do not come back to the rule after this one
	Name    string // ACCEPT, DROP, REJECT, RETURN, MARK, NFLOG, CT or a chain
	Options string // of the kernel's targets
}

// Targets of the kernel that end a packet's way, or a chain.
var (
	accept  = Target{Name: "ACCEPT"}
	drop    = Target{Name: "DROP"}
	giveWay = Target{Name: "RETURN"}
)

// The mark by which a chain tells its caller that a packet is accepted. One bit
// of the mark is the firewall's, the others are left to the administrator.
const (
	markBit   = "0x80000000/0x80000000"
	unmarkBit = "0x00000000/0x80000000"
)

var (
	setMark   = Target{Name: "MARK", Options: "--set-mark " + markBit}
	clearMark = Target{Name: "MARK", Options: "--set-mark " + unmarkBit}
)

// jump goes through a chain and comes back if that decides nothing.
func jump(chain string) Target { return Target{Name: chain} }

// follow goes to a chain for good: where it ends, the calling chain ends.
func follow(chain string) Target { return Target{Goto: true, Name: chain} }

// reject answers the sender; with is a kind of answer that the family knows.
func reject(with string) Target { return Target{Name: "REJECT", Options: "--reject-with " + with} }

func rule(target Target, conditions ...Condition) Rule {
	return Rule{Conditions: conditions, Target: target}
}

// add appends a rule to a chain.
func (c *Chain) add(target Target, conditions ...Condition) {
	*c = append(*c, rule(target, conditions...))
}
