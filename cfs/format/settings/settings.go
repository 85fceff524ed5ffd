// Package settings reads and edits files that are one list of "key: value"
// lines: datacenter.cfg and nodes/NODE/config.
//
// Lines that begin with "#" hold the description. The package owns that
// grammar and the check before a save; it keeps every byte of lines that are
// not edited. It never knows which keys exist; package definitions does.
package settings

import (
	"regexp"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
)

var form = regexp.MustCompile(`^\s*([^\s:]+):\s*(.*?)\s*$`)

// A Document is such a file as it was written.
type Document struct {
	lines []text.Line
}

// A Setting is one line of a Document.
type Setting struct {
	Key, Value        string
	Line              int
	KeyColumn, Column int // of key and value, from 1
}

// Parse reads a file. Lines that mean nothing are kept.
func Parse(content string) *Document { return &Document{text.Lines(content)} }

// String returns the exact text.
func (d *Document) String() string { return text.Join(d.lines) }

// Settings returns all settings in the order of the file.
func (d *Document) Settings() []Setting {
	var all []Setting
	for _, l := range d.lines {
		if s, ok := setting(l); ok {
			all = append(all, s)
		}
	}
	return all
}

func setting(l text.Line) (Setting, bool) {
	m := form.FindStringSubmatchIndex(l.Text)
	if m == nil || isComment(l.Text) {
		return Setting{}, false
	}
	return Setting{
		Key: l.Text[m[2]:m[3]], Value: l.Text[m[4]:m[5]],
		Line: l.Number, KeyColumn: m[2] + 1, Column: m[4] + 1,
	}, true
}

func isComment(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }

// Get returns the value of a key; the last line counts.
func (d *Document) Get(key string) (string, bool) {
	for _, s := range slices.Backward(d.Settings()) {
		if s.Key == key {
			return s.Value, true
		}
	}
	return "", false
}

// Description returns the text of the comment lines.
func (d *Document) Description() string {
	var b strings.Builder
	for _, l := range d.lines {
		if line := strings.TrimSpace(l.Text); isComment(line) {
			b.WriteString(text.Decode(line[1:]) + "\n")
		}
	}
	return b.String()
}

// Set gives a key a value, in the place of its old line or at the end.
func (d *Document) Set(key, value string) {
	line := text.Line{Text: key + ": " + value, End: "\n"}
	done := false
	for i := len(d.lines) - 1; i >= 0; i-- {
		if s, ok := setting(d.lines[i]); !ok || s.Key != key {
			continue
		}
		if done {
			d.lines = slices.Delete(d.lines, i, i+1)
		} else {
			d.lines[i].Text, done = line.Text, true
		}
	}
	if !done {
		if n := len(d.lines); n > 0 && d.lines[n-1].End == "" {
			d.lines[n-1].End = "\n"
		}
		d.lines = append(d.lines, line)
	}
	d.number()
}

// Delete removes a key.
func (d *Document) Delete(key string) {
	d.lines = slices.DeleteFunc(d.lines, func(l text.Line) bool {
		s, ok := setting(l)
		return ok && s.Key == key
	})
	d.number()
}

func (d *Document) number() {
	for i := range d.lines {
		d.lines[i].Number = i + 1
	}
}

// A Reader checks a file line by line before it is saved. Keys that it does
// not know are only warned of: they survive.
type Reader struct {
	keys schema.Keys
	file string
	seen map[string]int // line of each key

	problems, warnings []text.Error
}

// NewReader returns a reader for the file of that name.
func NewReader(keys schema.Keys, file string) *Reader {
	return &Reader{keys: keys, file: file, seen: map[string]int{}}
}

// Problems returns what is wrong with the lines read so far.
func (r *Reader) Problems() []text.Error { return r.problems }

// End returns everything that is wrong, and what is only doubtful.
func (r *Reader) End() (refused, warnings []text.Error) { return r.problems, r.warnings }

// Line takes the next line.
func (r *Reader) Line(l text.Line) {
	if strings.TrimSpace(l.Text) == "" || isComment(l.Text) {
		return
	}
	s, ok := setting(l)
	if !ok {
		r.problems = append(r.problems, text.Error{File: r.file, Line: l.Number, Column: 1, Message: "expected 'key: value' or a comment"})
		return
	}
	at := text.Error{File: r.file, Line: s.Line, Column: s.KeyColumn, Key: s.Key}
	p := r.keys[s.Key]
	switch {
	case p == nil:
		at.Message = "unknown key"
		r.warnings = append(r.warnings, at)
	case r.seen[s.Key] > 0:
		at.Message = "key is given twice"
		r.problems = append(r.problems, at)
	case s.Value == "" && !mayBeEmpty(p):
		at.Column, at.Message = s.Column, "a value is missing"+expected(p)
		r.problems = append(r.problems, at)
	default:
		if err := p.Check(s.Value); err != nil {
			at.Column = s.Column
			r.problems = append(r.problems, schema.Place(err, at))
		}
	}
	r.seen[s.Key] = l.Number
}

// mayBeEmpty reports whether nothing is a value, as it is for free text.
func mayBeEmpty(p *schema.Property) bool {
	free := p.Type == "string" && p.Format.IsZero() && p.Enum == nil && p.Pattern == ""
	return free || strings.HasSuffix(p.Format.Name, "-opt")
}

// expected tells what a value may be.
func expected(p *schema.Property) string {
	switch {
	case p.Enum != nil:
		return "; expected one of " + strings.Join(p.Enum, ", ")
	case p.Format.Keys != nil:
		var keys []string
		for key := range p.Format.Keys {
			keys = append(keys, key+"=…")
		}
		slices.Sort(keys)
		return "; expected some of " + strings.Join(keys, ", ")
	case p.Type == "string":
		return ""
	}
	return "; expected a value of type " + p.Type
}
