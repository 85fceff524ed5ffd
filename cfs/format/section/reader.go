package section

import (
	"fmt"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
)

// A Reader checks a file line by line before it is saved and can say after
// each line what is wrong so far. Types and keys that it does not know are
// only warned of: they survive.
type Reader struct {
	d    *Definition
	file string

	problems, warnings []text.Error

	ids     map[string]int // line of each section by id
	open    bool
	known   bool // the type of the open section is defined
	current Section
	values  map[string][]string
}

// NewReader returns a reader for the file of that name.
func NewReader(d *Definition, file string) *Reader {
	return &Reader{d: d, file: file, ids: map[string]int{}}
}

// Line takes the next line.
func (r *Reader) Line(l text.Line) {
	switch {
	case commentForm.MatchString(l.Text):
	case l.Text == "":
		r.finish()
	case r.open:
		r.property(l)
	default:
		r.header(l)
	}
}

// Problems returns what is wrong with the lines read so far.
func (r *Reader) Problems() []text.Error { return r.problems }

// End returns everything that is wrong, and what is only doubtful.
func (r *Reader) End() (refused, warnings []text.Error) {
	r.finish()
	return r.problems, r.warnings
}

func (r *Reader) at(line, column int, key, format string, args ...any) text.Error {
	return text.Error{File: r.file, Line: line, Column: column, Key: key, Message: fmt.Sprintf(format, args...)}
}

func (r *Reader) refuse(e text.Error) { r.problems = append(r.problems, e) }
func (r *Reader) warn(e text.Error)   { r.warnings = append(r.warnings, e) }

func (r *Reader) expected() string {
	if r.d.Bare != "" {
		return "a section header 'id'"
	}
	return "a section header 'type: id'"
}

func (r *Reader) header(l text.Line) {
	kind, id, ok := header(l.Text, r.d.Bare)
	if !ok {
		if strings.TrimSpace(l.Text) != "" {
			r.refuse(r.at(l.Number, 1, "", "expected %s, or an empty line", r.expected()))
		}
		return
	}
	r.open, r.values = true, map[string][]string{}
	r.current = Section{Type: kind, ID: id, Line: l.Number}
	r.known = r.d.Types[kind] != nil
	if !r.known {
		r.warn(r.at(l.Number, 1, "", "unknown section type '%s'; expected one of %s", kind, strings.Join(r.d.TypeNames(), ", ")))
	}
	column := strings.LastIndex(l.Text, id) + 1
	if r.d.ID != nil && r.known {
		if err := r.d.ID.Check(id); err != nil {
			r.refuse(schema.Place(err, r.at(l.Number, column, "", "")))
		}
	}
	name := id
	if r.d.IDsByType {
		name = kind + ":" + id
	}
	if first := r.ids[name]; first > 0 {
		r.refuse(r.at(l.Number, column, "", "section '%s' exists already on line %d", id, first))
		return
	}
	r.ids[name] = l.Number
}

func (r *Reader) property(l text.Line) {
	e, ok := entry(l)
	if !ok {
		if strings.TrimSpace(l.Text) == "" {
			r.warn(r.at(l.Number, 1, "", "blanks on an otherwise empty line do not end a section"))
		} else {
			r.refuse(r.at(l.Number, 1, "", "expected an indented 'key value' line, or an empty line before %s", r.expected()))
		}
		return
	}
	if !r.known {
		return
	}
	kind := r.current.Type
	p, takes := r.d.Property(kind, e.Key)
	if !takes {
		r.warn(r.at(l.Number, e.KeyColumn, e.Key, "unknown key in sections of type '%s'", kind))
		return
	}
	if p.Type != "array" && r.values[e.Key] != nil {
		r.refuse(r.at(l.Number, e.KeyColumn, e.Key, "key is given twice"))
		return
	}
	if _, err := r.d.value(kind, e.Key, e.Value, e.Column > 0); err != nil {
		column := e.Column
		if column == 0 {
			column = e.KeyColumn
		}
		r.refuse(schema.Place(err, r.at(l.Number, column, e.Key, "")))
	}
	r.values[e.Key] = append(r.values[e.Key], e.Value)
}

// finish closes the open section.
func (r *Reader) finish() {
	if !r.open {
		return
	}
	r.open = false
	if !r.known {
		return
	}
	if key := r.d.missing(r.current.Type, r.values); key != "" {
		r.refuse(r.at(r.current.Line, 1, key, "section '%s' of type '%s' lacks this required key", r.current.ID, r.current.Type))
	}
}
