// Package user reads and writes user.cfg: users, tokens, groups, pools, roles
// and access control lists, one line each, fields separated by colons.
//
//	user:alice@pve:1:0:Alice::alice@example.org:::
//	token:alice@pve!ci:0:1::
//	group:admins:alice@pve:the team:
//	pool:web:front ends:100,101:local:
//	role:Operator:VM.Audit,VM.PowerMgmt:
//	acl:1:/pool/web:@admins,alice@pve!ci:Operator:
//
// It owns that grammar, the built-in roles, the check before a save and two
// readings: a Document for edits that leave every other line as it was, and a
// Config that means and writes what users' other tools mean and write. It
// never decides who may do what.
package user

import (
	"slices"
	"strings"

	"etcpve/cfs/format/text"
)

// File is where the users are, relative to /etc/pve.
const File = "user.cfg"

// A Record is one line that is neither empty nor a comment.
type Record struct {
	Kind   string // user, token, group, pool, role, acl or something unknown
	Fields []string
	Line   int

	columns []int // of Kind and of each field, from 1
}

// Field returns field i without surrounding blanks, empty if it is missing.
func (r Record) Field(i int) string {
	if i < len(r.Fields) {
		return r.Fields[i]
	}
	return ""
}

// column returns where field i stands; -1 is the kind.
func (r Record) column(i int) int {
	return r.columns[min(i+1, len(r.columns)-1)]
}

// record cuts a line into its fields.
func record(l text.Line) (Record, bool) {
	trimmed := strings.TrimSpace(l.Text)
	if trimmed == "" || trimmed[0] == '#' {
		return Record{}, false
	}
	r := Record{Line: l.Number}
	var fields []string
	at := 0
	for field := range strings.SplitSeq(l.Text, ":") {
		body := strings.TrimLeft(field, " \t\r\f\v")
		fields = append(fields, strings.TrimSpace(field))
		r.columns = append(r.columns, at+len(field)-len(body)+1)
		at += len(field) + 1
	}
	r.Kind, r.Fields = fields[0], fields[1:]
	return r, true
}

// A Document is user.cfg as it was written.
type Document struct{ lines []text.Line }

// ParseDocument reads a file. It never fails: every line is kept.
func ParseDocument(content string) *Document { return &Document{text.Lines(content)} }

// String returns the exact text.
func (d *Document) String() string { return text.Join(d.lines) }

// Records returns the lines that say something.
func (d *Document) Records() []Record {
	var all []Record
	for _, l := range d.lines {
		if r, ok := record(l); ok {
			all = append(all, r)
		}
	}
	return all
}

// Set writes the line of that kind and name, in the place of its old one or
// after the last line of the kind. Fields begin with the name; free text must
// be encoded, see text.Encode.
func (d *Document) Set(kind string, fields ...string) {
	line := text.Line{Text: kind + ":" + strings.Join(fields, ":") + ":", End: "\n"}
	at := len(d.lines)
	for i, l := range d.lines {
		r, ok := record(l)
		if !ok || r.Kind != kind {
			continue
		}
		if kind != "acl" && r.Field(0) == fields[0] {
			d.lines[i].Text = line.Text
			return
		}
		at = i + 1
	}
	if at > 0 && d.lines[at-1].End == "" {
		d.lines[at-1].End = "\n"
	}
	d.lines = slices.Insert(d.lines, at, line)
	d.number()
}

// Remove takes out the lines of a kind that match.
func (d *Document) Remove(kind string, match func(Record) bool) {
	d.lines = slices.DeleteFunc(d.lines, func(l text.Line) bool {
		r, ok := record(l)
		return ok && r.Kind == kind && match(r)
	})
	d.number()
}

func (d *Document) number() {
	for i := range d.lines {
		d.lines[i].Number = i + 1
	}
}
