package rules

import (
	"fmt"
	"strings"

	"etcpve/cfs/format/section"
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

// ParseGroups reads ha/groups.cfg. A group that cannot be understood is left
// out, and the others hold.
func ParseGroups(text string) (groups []Group, mistakes []error) {
	for _, s := range section.ParseDocument(text, "").Sections {
		if s.Type != "group" {
			continue
		}
		value := func(key string) string { v, _ := s.Get(key); return v }
		nodes, err := parseNodes(value("nodes"))
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("ha/groups.cfg: line %d: group '%s': %w", s.Line, s.ID, err))
			continue
		}
		groups = append(groups, Group{
			ID:         s.ID,
			Nodes:      nodes,
			Restricted: truth(value("restricted")),
			NoFailback: truth(value("nofailback")),
			nodes:      value("nodes"),
			comment:    value("comment"),
		})
	}
	return groups, mistakes
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
// added; a rule of the same id is replaced, everything else stays as it is.
func AppendGroups(text string, groups []Group, members map[string][]string) (string, error) {
	d := section.ParseDocument(text, "")
	for _, g := range groups {
		if services := members[g.ID]; len(services) > 0 {
			if err := g.add(d, g.Rule(services)); err != nil {
				return "", err
			}
		}
	}
	return d.String(), nil
}

// add writes the group's rule into a document.
func (g Group) add(d *section.Document, r Rule) error {
	if _, found := d.Section(r.ID); found {
		if err := d.Remove(r.ID); err != nil {
			return err
		}
	}
	if err := d.Add(string(r.Kind), r.ID); err != nil {
		return err
	}
	for _, entry := range []struct {
		key, value string
		given      bool
	}{
		{"comment", g.comment, g.comment != ""},
		{"nodes", g.nodes, true},
		{"resources", strings.Join(r.Services, ","), true},
		{"strict", "1", r.Strict},
	} {
		if !entry.given {
			continue
		}
		if err := d.Set(r.ID, entry.key, entry.value); err != nil {
			return err
		}
	}
	return nil
}
