// Package firewall reads the rule files of the firewall: firewall/cluster.fw,
// firewall/VMID.fw, nodes/NODE/host.fw and sdn/firewall/VNET.fw.
//
// It owns their grammar, the tables of options, macros and protocols, and the
// reasons for which a line is refused. A document keeps every byte it was read
// from. A line that means nothing is left out of the lists and named in
// Problems, so that one bad line never takes the others with it. The package
// never resolves a name across files and never makes packet filter rules.
package firewall

import (
	"strings"

	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// Scope says what a rule file is for; it decides which sections, options and
// interfaces may appear.
type Scope int

// The four kinds of rule files.
const (
	Cluster Scope = iota
	Host
	Guest
	VNet
)

// ScopeOf returns the scope of the rule file at path, relative to the mount.
func ScopeOf(path string) (Scope, bool) {
	dir, name := layout.Split(path)
	stem, ok := strings.CutSuffix(name, ".fw")
	if !ok || stem == "" {
		return 0, false
	}
	parts := strings.Split(dir, "/")
	switch {
	case path == "firewall/cluster.fw":
		return Cluster, true
	case dir == "firewall":
		_, ok := layout.ParseVMID(stem)
		return Guest, ok
	case dir == "sdn/firewall":
		return VNet, true
	case len(parts) == 2 && parts[0] == "nodes" && name == "host.fw":
		return Host, true
	}
	return 0, false
}

// A Document is a rule file as it was read.
type Document struct {
	Scope   Scope
	File    string
	Options []Option // valid ones in the order of the file; a later one of the same name wins
	Rules   []Rule
	Groups  []Group
	IPSets  []IPSet
	Aliases []Alias

	Problems []text.Error // what a save is refused for, in the order of the file
	Warnings []text.Error

	lines []text.Line
	index map[name]int // place in its list by kind and name
}

// A name is what a line defines.
type name struct{ kind, name string }

// define notes that the line about to be appended to a list of that length
// defines a name, and reports whether it is new.
func (d *Document) define(kind, called string, place int) bool {
	if _, twice := d.index[name{kind, called}]; twice {
		return false
	}
	if d.index == nil {
		d.index = map[name]int{}
	}
	d.index[name{kind, called}] = place
	return true
}

// An Option is a line of [OPTIONS]. Names and log levels are folded to lower
// case, policies to upper case.
type Option struct {
	Line        int
	Name, Value string
}

// A Group is a named list of rules of cluster.fw.
type Group struct {
	Line          int
	Name, Comment string // the name is folded to lower case
	Rules         []Rule
}

// An IPSet is a named set of addresses.
type IPSet struct {
	Line          int
	Name, Comment string // the name is folded to lower case
	Entries       []Entry
}

// An Entry is one line of an IP set.
type Entry struct {
	Line    int
	Negated bool
	Address Address // an alias, an address, a network or a range; never a set
	Comment string
}

// An Alias is a name for an address or network.
type Alias struct {
	Line          int
	Name, Comment string // the name is folded to lower case
	Address       Address
}

// Parse reads a rule file. It never fails: what cannot be read is in Problems.
func Parse(scope Scope, file, content string) *Document {
	r := NewReader(scope, file)
	for _, l := range text.Lines(content) {
		r.Line(l)
	}
	return r.Document()
}

// String returns the exact text that was read.
func (d *Document) String() string { return text.Join(d.lines) }

// Option returns the value of an option, and whether it is set.
func (d *Document) Option(name string) (string, bool) {
	for i := len(d.Options) - 1; i >= 0; i-- {
		if d.Options[i].Name == name {
			return d.Options[i].Value, true
		}
	}
	return "", false
}

// Enabled reads a truth value or count among the options.
func (d *Document) Enabled(name string, preset bool) bool {
	value, ok := d.Option(name)
	if !ok {
		return preset
	}
	return strings.Trim(value, "0") != ""
}

// Group returns the group of that name.
func (d *Document) Group(called string) (Group, bool) {
	i, ok := d.index[name{"group", called}]
	if !ok {
		return Group{}, false
	}
	return d.Groups[i], true
}

// IPSet returns the set of that name.
func (d *Document) IPSet(called string) (IPSet, bool) {
	i, ok := d.index[name{"ipset", called}]
	if !ok {
		return IPSet{}, false
	}
	return d.IPSets[i], true
}

// Alias returns the alias of that name, whatever its case.
func (d *Document) Alias(called string) (Alias, bool) {
	i, ok := d.index[name{"alias", strings.ToLower(called)}]
	if !ok {
		return Alias{}, false
	}
	return d.Aliases[i], true
}
