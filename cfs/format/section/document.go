// Package section reads and writes sectioned files: a header "type: id",
// indented "key value" lines, an empty line.
//
//	nfs: nas
//		path /mnt/pve/nas
//		server 192.0.2.5
//		content images,backup
//
// It owns three readings of that form: a Document for edits that leave every
// other line as it was, a Config that takes and writes a file exactly as
// users' other tools do, and a Reader that checks a save line by line. It also
// derives the parameters of create and update calls from a Definition. It
// knows no type or key by name and never opens a file; the tables are the
// caller's.
package section

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"etcpve/cfs/format/text"
)

var (
	headerForm   = regexp.MustCompile(`^(\S+):\s*(\S+)\s*$`)
	bareForm     = regexp.MustCompile(`^(\S+)\s*$`)
	propertyForm = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
	commentForm  = regexp.MustCompile(`^\s*#`)
)

// A Document is a sectioned file as it was written.
type Document struct {
	Sections []Section

	bare  string
	lines []text.Line
}

// A Section is a header and the lines below it.
type Section struct {
	Type, ID string
	Line     int // of the header
	Entries  []Entry

	last int // index after the section's last property line
}

// An Entry is a line "key value" of a section.
type Entry struct {
	Key, Value        string
	Line              int
	KeyColumn, Column int // of key and value, from 1; Column is 0 without a value
}

// ParseDocument reads a file. Bare is the type of sections whose header is
// only an id, empty for files with "type: id". Lines that mean nothing are
// kept but not listed.
func ParseDocument(content, bare string) *Document {
	d := &Document{bare: bare, lines: text.Lines(content)}
	d.scan()
	return d
}

func (d *Document) scan() {
	d.Sections = nil
	var open bool
	for i, l := range d.lines {
		switch {
		case commentForm.MatchString(l.Text):
		case l.Text == "":
			open = false
		case !open:
			kind, id, ok := header(l.Text, d.bare)
			if !ok {
				continue
			}
			open = true
			d.Sections = append(d.Sections, Section{Type: kind, ID: id, Line: l.Number, last: i + 1})
		default:
			if e, ok := entry(l); ok {
				s := &d.Sections[len(d.Sections)-1]
				s.Entries = append(s.Entries, e)
				s.last = i + 1
			}
		}
	}
}

// header reads "type: id", or "id" if bare is given.
func header(line, bare string) (kind, id string, ok bool) {
	form := headerForm
	if bare != "" {
		form = bareForm
	}
	m := form.FindStringSubmatch(line)
	switch {
	case m == nil:
		return "", "", false
	case bare != "":
		return bare, m[1], true
	}
	return m[1], m[2], true
}

func entry(l text.Line) (Entry, bool) {
	m := propertyForm.FindStringSubmatchIndex(l.Text)
	if m == nil {
		return Entry{}, false
	}
	e := Entry{Key: l.Text[m[2]:m[3]], Line: l.Number, KeyColumn: m[2] + 1}
	if m[4] >= 0 {
		e.Value, e.Column = l.Text[m[4]:m[5]], m[4]+1
	}
	return e, true
}

// String returns the file's exact text.
func (d *Document) String() string { return text.Join(d.lines) }

// Section returns the section of that id.
func (d *Document) Section(id string) (Section, bool) {
	i := slices.IndexFunc(d.Sections, func(s Section) bool { return s.ID == id })
	if i < 0 {
		return Section{}, false
	}
	return d.Sections[i], true
}

// Get returns the first value of a key.
func (s Section) Get(key string) (string, bool) {
	for _, e := range s.Entries {
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// All returns every value of a repeated key.
func (s Section) All(key string) []string {
	var values []string
	for _, e := range s.Entries {
		if e.Key == key {
			values = append(values, e.Value)
		}
	}
	return values
}

// Set gives a key of a section these values, one line each, in the place of
// its old ones or at the section's end. Without values the key is removed.
func (d *Document) Set(id, key string, values ...string) error {
	s, ok := d.Section(id)
	if !ok {
		return fmt.Errorf("section: no section '%s'", id)
	}
	at, removed := s.last, map[int]bool{}
	for _, e := range slices.Backward(s.Entries) {
		if e.Key == key {
			removed[e.Line-1] = true
			at = e.Line - 1
		}
	}
	var added []text.Line
	for _, v := range values {
		added = append(added, text.Line{Text: strings.TrimRight("\t"+key+" "+v, " "), End: "\n"})
	}
	d.splice(at, removed, added)
	return nil
}

// Add appends a section. Its keys follow by Set.
func (d *Document) Add(kind, id string) error {
	if _, ok := d.Section(id); ok {
		return fmt.Errorf("section: '%s' exists already", id)
	}
	head := kind + ": " + id
	if d.bare != "" {
		head = id
	}
	added := []text.Line{{Text: head, End: "\n"}, {End: "\n"}}
	if n := len(d.lines); n > 0 && d.lines[n-1].Text != "" {
		added = append([]text.Line{{End: "\n"}}, added...)
	}
	d.splice(len(d.lines), nil, added)
	return nil
}

// Remove takes a section out, with the comments inside it and the empty line
// after it.
func (d *Document) Remove(id string) error {
	s, ok := d.Section(id)
	if !ok {
		return fmt.Errorf("section: no section '%s'", id)
	}
	removed := map[int]bool{}
	for i := s.Line - 1; i < s.last; i++ {
		removed[i] = true
	}
	if s.last < len(d.lines) && d.lines[s.last].Text == "" {
		removed[s.last] = true
	}
	d.splice(len(d.lines), removed, nil)
	return nil
}

// splice removes lines and inserts others before the line of index at.
func (d *Document) splice(at int, removed map[int]bool, added []text.Line) {
	var lines []text.Line
	for i := 0; i <= len(d.lines); i++ {
		if i == at {
			if n := len(lines); n > 0 && lines[n-1].End == "" && len(added) > 0 {
				lines[n-1].End = "\n"
			}
			lines = append(lines, added...)
		}
		if i < len(d.lines) && !removed[i] {
			lines = append(lines, d.lines[i])
		}
	}
	for i := range lines {
		lines[i].Number = i + 1
	}
	d.lines = lines
	d.scan()
}
