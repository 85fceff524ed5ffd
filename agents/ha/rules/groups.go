package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Group is one section of ha/groups.cfg, the form rules replaced.
type Group struct {
	ID         string
	Nodes      map[string]int
	Restricted bool
	NoFailback bool
	nodes      string // as written
	comment    string
}

// ParseGroups reads ha/groups.cfg.
func ParseGroups(text string) ([]Group, error) {
	sections, err := parseSections("ha/groups.cfg", text)
	if err != nil {
		return nil, err
	}
	var groups []Group
	for _, s := range sections {
		if s.kind != "group" {
			continue
		}
		nodes, err := parseNodes(s.get("nodes"))
		if err != nil {
			return nil, fmt.Errorf("ha/groups.cfg: group '%s': %w", s.id, err)
		}
		groups = append(groups, Group{
			ID:         s.id,
			Nodes:      nodes,
			Restricted: truth(s.get("restricted")),
			NoFailback: truth(s.get("nofailback")),
			nodes:      s.get("nodes"),
			comment:    s.get("comment"),
		})
	}
	return groups, nil
}

// Rule returns the rule that does what the group did for the given services.
func (g Group) Rule(services []string) Rule {
	return Rule{
		ID:       "ha-group-" + g.ID,
		Kind:     NodeAffinity,
		Services: distinct(services),
		Nodes:    g.Nodes,
		Strict:   g.Restricted,
	}
}

// FromGroups returns one rule for each group that has services. members names
// the services by group.
func FromGroups(groups []Group, members map[string][]string) (all []Rule) {
	for _, g := range groups {
		if services := members[g.ID]; len(services) > 0 {
			all = append(all, g.Rule(services))
		}
	}
	return all
}

// AppendGroups returns the text of ha/rules.cfg with the rules of FromGroups
// added; a rule of the same id is replaced.
func AppendGroups(text string, groups []Group, members map[string][]string) (string, error) {
	sections, err := parseSections("ha/rules.cfg", text)
	if err != nil {
		return "", err
	}
	for _, g := range groups {
		services := members[g.ID]
		if len(services) == 0 {
			continue
		}
		added := g.section(g.Rule(services))
		sections = slices.DeleteFunc(sections, func(s section) bool { return s.id == added.id })
		sections = append(sections, added)
	}
	return formatSections(sections), nil
}

func (g Group) section(r Rule) section {
	s := section{kind: string(NodeAffinity), id: r.ID}
	if g.comment != "" {
		s.lines = append(s.lines, property{"comment", g.comment})
	}
	return section{s.kind, s.id, append(s.lines,
		property{"nodes", g.nodes},
		property{"resources", strings.Join(r.Services, ",")},
		property{"strict", strconv.Itoa(digit(r.Strict))})}
}

func digit(b bool) int {
	if b {
		return 1
	}
	return 0
}
