// Package rules knows where services may, should and must not run together.
//
// It owns ha/rules.cfg and the older ha/groups.cfg: reading them, finding rules
// that contradict each other, and turning what remains into Constraints, which
// answer for one service at a time. It never looks at the state of a cluster
// and never chooses a node.
package rules

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// A Kind is what a rule is about.
type Kind string

// The kinds of rule: services and nodes, services among themselves.
const (
	NodeAffinity     Kind = "node-affinity"
	ResourceAffinity Kind = "resource-affinity"
)

// A Rule is one section of ha/rules.cfg.
type Rule struct {
	ID       string
	Kind     Kind
	Services []string       // in order, each once
	Nodes    map[string]int // node affinity: priority by node
	Strict   bool           // node affinity: never anywhere else
	Positive bool           // resource affinity: together, else apart
	Disabled bool
}

// Parse reads ha/rules.cfg. Sections of other kinds are skipped. A rule that
// cannot be understood is left out, and the others hold.
func Parse(text string) (all []Rule, mistakes []error) {
	for _, s := range section.ParseDocument(text, "").Sections {
		if kind := Kind(s.Type); kind != NodeAffinity && kind != ResourceAffinity {
			continue
		}
		r, err := parseRule(s)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("ha/rules.cfg: rule '%s': %w", s.ID, err))
			continue
		}
		all = append(all, r)
	}
	return all, mistakes
}

func parseRule(s section.Section) (r Rule, err error) {
	r = Rule{ID: s.ID, Kind: Kind(s.Type)}
	for _, e := range s.Entries {
		switch e.Key {
		case "resources":
			r.Services = distinct(schema.SplitList(e.Value))
		case "nodes":
			r.Nodes, err = parseNodes(e.Value)
		case "strict":
			r.Strict = truth(e.Value)
		case "affinity":
			r.Positive = e.Value == "positive"
			if !r.Positive && e.Value != "negative" {
				err = fmt.Errorf("affinity: neither positive nor negative: '%s'", e.Value)
			}
		case "disable":
			r.Disabled = true
		}
		if err != nil {
			return r, fmt.Errorf("line %d: %w", e.Line, err)
		}
	}
	return r, nil
}

// parseNodes reads a list of node or node:priority.
func parseNodes(value string) (map[string]int, error) {
	nodes := map[string]int{}
	for _, item := range schema.SplitList(value) {
		name, text, given := strings.Cut(item, ":")
		priority := 0
		if given {
			var err error
			if priority, err = strconv.Atoi(text); err != nil || priority < 0 {
				return nil, fmt.Errorf("nodes: '%s' is not a priority", text)
			}
		}
		nodes[name] = priority
	}
	return nodes, nil
}

// enabled returns the rules that are switched on, ordered by id.
func enabled(all []Rule) []Rule {
	on := slices.DeleteFunc(slices.Clone(all), func(r Rule) bool { return r.Disabled })
	slices.SortStableFunc(on, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return on
}

// shared returns the services two rules have in common.
func (r Rule) shared(services []string) (common []string) {
	for _, sid := range r.Services {
		if _, found := slices.BinarySearch(services, sid); found {
			common = append(common, sid)
		}
	}
	return common
}

// priorities returns the different priorities of a rule's nodes.
func (r Rule) priorities() []int { return distinct(slices.Collect(maps.Values(r.Nodes))) }

// distinct returns the items in order, each once.
func distinct[T int | string](items []T) []T {
	items = slices.Clone(items)
	slices.Sort(items)
	return slices.Compact(items)
}

// truth reads a boolean as the section format knows it.
func truth(value string) bool {
	b, _ := schema.Bool(value)
	return b
}
