package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// A section is one entry of a section file: a header and indented properties.
type section struct {
	kind, id string
	lines    []property
}

// property is one line of a section, in the file's order.
type property struct{ key, value string }

func (s section) get(key string) string {
	for _, p := range s.lines {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

var (
	headerLine   = regexp.MustCompile(`^(\S+):\s*(\S+)\s*$`)
	propertyLine = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
)

// parseSections reads a section file. A blank line ends a section, lines that
// start with # are skipped.
func parseSections(file, text string) ([]section, error) {
	var (
		sections []section
		open     bool
	)
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			open = false
		case headerLine.MatchString(line):
			m := headerLine.FindStringSubmatch(line)
			sections = append(sections, section{kind: m[1], id: m[2]})
			open = true
		case open && propertyLine.MatchString(line):
			m := propertyLine.FindStringSubmatch(line)
			last := &sections[len(sections)-1]
			last.lines = append(last.lines, property{m[1], m[2]})
		default:
			return nil, fmt.Errorf("%s: line %d: neither a header nor a property: %q", file, i+1, line)
		}
	}
	return sections, nil
}

// formatSections writes sections the way PVE does.
func formatSections(sections []section) string {
	var b strings.Builder
	for i, s := range sections {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: %s\n", s.kind, s.id)
		for _, p := range s.lines {
			b.WriteString(strings.TrimRight("\t"+p.key+" "+p.value, " ") + "\n")
		}
	}
	return b.String()
}

// list splits a value at commas and drops empty items.
func list(value string) (items []string) {
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// truth reads a boolean as the section format knows it.
func truth(value string) bool {
	switch strings.ToLower(value) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
