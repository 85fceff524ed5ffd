// Package corosync reads and writes corosync.conf, the definition of the
// cluster: nested sections of "key: value" entries.
//
//	totem {
//	  cluster_name: lab
//	  config_version: 3
//	}
//	nodelist {
//	  node {
//	    name: n1
//	    nodeid: 1
//	    quorum_votes: 1
//	    ring0_addr: 10.77.0.1
//	  }
//	}
//
// It owns the grammar and the view of it as a list of nodes. Keys it does not
// know are kept; comments are not, as in PVE's own writer. It never resolves a
// name and never decides whether a change is safe.
package corosync

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/text"
)

// File is where the definition lives, relative to /etc/pve.
const File = "corosync.conf"

// A Section is one block: its own entries and the blocks within it. Blocks that
// may be repeated (node, interface) are kept by their key.
type Section struct {
	Entries  map[string]string
	Sections map[string]*Section
	Repeated map[string]map[string]*Section
	lines    map[string]int // where each entry stood
	line     int            // where the section began
}

func newSection(line int) *Section {
	return &Section{map[string]string{}, map[string]*Section{}, map[string]map[string]*Section{}, map[string]int{}, line}
}

// identity names the entries by which blocks that may be repeated are told
// apart; the first one present counts.
var identity = map[string][]string{
	"node":      {"name", "ring0_addr"},
	"interface": {"linknumber", "ringnumber"},
}

// A token is one word of the file, or a brace.
type token struct {
	text         string
	line, column int
}

// tokens cuts the file into words: white space and line ends only separate.
func tokens(content string) (list []token) {
	for i, line := range strings.Split(content, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for at := 0; at < len(line); {
			switch c := line[at]; {
			case strings.IndexByte(" \t\r\v\f", c) >= 0:
				at++
			case c == '{' || c == '}':
				list = append(list, token{line[at : at+1], i + 1, at + 1})
				at++
			default:
				end := at + 1
				for end < len(line) && strings.IndexByte(" \t\r\v\f{}", line[end]) < 0 {
					end++
				}
				list = append(list, token{line[at:end], i + 1, at + 1})
				at = end
			}
		}
	}
	return list
}

// A reader consumes tokens.
type reader struct{ rest []token }

func (r *reader) next() (t token, ok bool) {
	if len(r.rest) == 0 {
		return t, false
	}
	t, r.rest = r.rest[0], r.rest[1:]
	return t, true
}

func wrong(t token, key, format string, args ...any) *text.Error {
	return &text.Error{File: File, Line: t.line, Column: t.column, Key: key, Message: fmt.Sprintf(format, args...)}
}

// Parse reads a definition. Its error is a *text.Error.
func Parse(content string) (*Section, error) {
	r := &reader{tokens(content)}
	root, err := r.section(token{line: 1, column: 1}, true, 0)
	if err != nil {
		return nil, err
	}
	return root, nil
}

// maxDepth is far more than any real definition nests.
const maxDepth = 16

// section reads up to the closing brace of the block that began at open.
func (r *reader) section(open token, top bool, depth int) (*Section, *text.Error) {
	if depth > maxDepth {
		return nil, wrong(open, "", "sections nested too deeply")
	}
	s := newSection(open.line)
	for {
		t, ok := r.next()
		switch {
		case !ok && top, ok && t.text == "}" && !top:
			return s, nil
		case !ok:
			return nil, wrong(open, open.text, "section is not closed")
		case t.text == "}" || t.text == "{":
			return nil, wrong(t, "", "unexpected %q", t.text)
		}
		if err := r.item(s, t, depth); err != nil {
			return nil, err
		}
	}
}

// item reads one entry or block that begins with t into s.
func (r *reader) item(s *Section, t token, depth int) *text.Error {
	if len(r.rest) > 0 && r.rest[0].text == "{" && !strings.Contains(t.text, ":") {
		r.rest = r.rest[1:]
		block, err := r.section(t, false, depth+1)
		if err != nil {
			return err
		}
		return s.put(t, block)
	}
	if len(r.rest) > 0 && strings.HasPrefix(r.rest[0].text, ":") && !strings.Contains(t.text, ":") {
		t.text += r.rest[0].text // white space before the colon
		r.rest = r.rest[1:]
	}
	key, value, ok := strings.Cut(t.text, ":")
	if !ok || key == "" {
		return wrong(t, "", "expected \"key: value\" or \"section {\", got %q", t.text)
	}
	if value == "" {
		v, ok := r.next()
		if !ok || v.text == "{" || v.text == "}" {
			return wrong(t, key, "value is missing")
		}
		value = v.text
	}
	if _, twice := s.Entries[key]; twice {
		return wrong(t, key, "given twice")
	}
	s.Entries[key], s.lines[key] = value, t.line
	return nil
}

// put adds a block to the section.
func (s *Section) put(t token, block *Section) *text.Error {
	keys, repeated := identity[t.text]
	if !repeated {
		if s.Sections[t.text] != nil {
			return wrong(t, t.text, "section given twice")
		}
		s.Sections[t.text] = block
		return nil
	}
	for _, key := range keys {
		name, ok := block.Entries[key]
		if !ok {
			continue
		}
		if s.Repeated[t.text][name] != nil {
			return wrong(t, t.text, "%s %q given twice", t.text, name)
		}
		if s.Repeated[t.text] == nil {
			s.Repeated[t.text] = map[string]*Section{}
		}
		s.Repeated[t.text][name] = block
		return nil
	}
	return wrong(t, t.text, "has neither %s", strings.Join(keys, " nor "))
}

// Format writes a definition: entries and blocks sorted, an empty line after
// each block of the top level.
func Format(root *Section) string {
	var b strings.Builder
	write(&b, root, 0)
	return b.String()
}

func write(b *strings.Builder, s *Section, depth int) {
	indent := strings.Repeat("  ", depth)
	names := slices.Concat(slices.Collect(maps.Keys(s.Entries)), slices.Collect(maps.Keys(s.Sections)), slices.Collect(maps.Keys(s.Repeated)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if value, ok := s.Entries[name]; ok {
			fmt.Fprintf(b, "%s%s: %s\n", indent, name, value)
		}
		if block := s.Sections[name]; block != nil {
			writeBlock(b, name, block, depth)
		}
		blocks := s.Repeated[name]
		for _, key := range slices.Sorted(maps.Keys(blocks)) {
			writeBlock(b, name, blocks[key], depth)
		}
	}
}

func writeBlock(b *strings.Builder, name string, block *Section, depth int) {
	indent := strings.Repeat("  ", depth)
	fmt.Fprintf(b, "%s%s {\n", indent, name)
	write(b, block, depth+1)
	fmt.Fprintf(b, "%s}\n", indent)
	if depth == 0 {
		b.WriteByte('\n')
	}
}
