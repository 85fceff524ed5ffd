package firewall

import (
	"strings"

	"etcpve/cfs/format/text"
)

// ownSets are IP sets that exist without being written down.
var ownSets = []string{"management", "blacklist"}

// isLocalNetwork reports whether a names the alias that every cluster has,
// written down or not.
func isLocalNetwork(a Address) bool { return a.Alias == "local_network" && a.Where != InGuest }

// elsewhere reports whether a name with that prefix could be defined in
// another file than this one.
func (d *Document) elsewhere(where Where) bool {
	switch where {
	case SDN:
		return true
	case InGuest:
		return false
	}
	return d.Scope != Cluster
}

// checkReferences names aliases, sets and groups that cannot exist. Names that
// another file may define are left to the firewall itself.
func (d *Document) checkReferences() {
	for _, rule := range d.Rules {
		d.checkNames(rule, false)
	}
	for _, g := range d.Groups {
		for _, rule := range g.Rules {
			d.checkNames(rule, true)
		}
	}
}

func (d *Document) checkNames(u Rule, inGroup bool) {
	if u.Invalid != nil {
		return
	}
	if u.Type == "group" && d.Scope == Cluster {
		if _, ok := d.Group(u.Action); !ok {
			d.missing(u, "action", "no such group '"+u.Action+"'")
		}
	}
	for _, name := range []string{"source", "dest"} {
		spec := *u.option(name)
		a, err := ParseAddress(spec)
		if spec == "" || err != nil || len(a.Ranges) > 0 {
			continue
		}
		if reason := d.unresolved(a, inGroup); reason != "" {
			d.missing(u, name, reason)
		} else if line := d.definedAt(a); line > u.Line {
			d.Warnings = append(d.Warnings, text.Error{File: d.File, Line: u.Line, Column: u.column(name), Key: name,
				Message: "'" + spec + "' is defined below this rule, which has no effect until it is defined above"})
		}
	}
}

func (d *Document) missing(u Rule, name, reason string) {
	e := text.Error{File: d.File, Line: u.Line, Column: u.column(name), Key: name, Message: reason}
	if u.Enabled {
		d.Problems = append(d.Problems, e)
	} else {
		d.Warnings = append(d.Warnings, e)
	}
}

// unresolved returns why a name can be defined nowhere, else "".
func (d *Document) unresolved(a Address, inGroup bool) string {
	switch {
	case a.Where == InGuest && (d.Scope != Guest || inGroup):
		return "only the rules of a guest can refer to names of a guest"
	case d.definedAt(a) > 0 || d.elsewhere(a.Where) || a.Set != "" && contains(ownSets, a.Set):
		return ""
	case isLocalNetwork(a):
		return ""
	case a.Set != "":
		return "no such IP set '" + strings.TrimPrefix(a.String(), "+") + "'"
	}
	return "no such alias or address '" + a.String() + "'"
}

// definedAt returns the line on which this file defines a name, or 0.
func (d *Document) definedAt(a Address) int {
	if a.Where == SDN || a.Where == Datacenter && d.Scope != Cluster {
		return 0
	}
	if a.Set != "" {
		s, _ := d.IPSet(a.Set)
		return s.Line
	}
	alias, _ := d.Alias(a.Alias)
	return alias.Line
}
