package firewall

import (
	"regexp"
	"strconv"
	"strings"

	"etcpve/cfs/format/text"
)

// A Reader takes a rule file line by line and can say after each line what is
// wrong so far.
type Reader struct {
	doc     Document
	section string // lower case; "" before the first and after a bad header
	started bool   // a section header was seen
}

// NewReader returns a reader for the file of that name.
func NewReader(scope Scope, file string) *Reader {
	return &Reader{doc: Document{Scope: scope, File: file}}
}

// Problems returns what is wrong with the lines read so far.
func (r *Reader) Problems() []text.Error { return r.doc.Problems }

// Document returns what was read, with the checks that need the whole file.
func (r *Reader) Document() *Document {
	r.doc.checkReferences()
	return &r.doc
}

var (
	plainHeader = regexp.MustCompile(`(?i)^\[(options|rules|aliases)\]$`)
	namedHeader = regexp.MustCompile(`(?i)^\[(group|ipset)\s+(\S+)\]\s*(?:#\s*(.*?))?$`)
	nameForm    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]+$`)
)

// longest names of groups and IP sets: the kernel's limits for chains and sets
// leave that much beside the prefix.
var longestName = map[string]int{"group": 18, "ipset": 64}

// sections that each scope may have.
var sections = map[Scope][]string{
	Cluster: {"options", "rules", "aliases", "ipset", "group"},
	Guest:   {"options", "rules", "aliases", "ipset"},
	Host:    {"options", "rules"},
	VNet:    {"options", "rules"},
}

// Line takes the next line.
func (r *Reader) Line(l text.Line) {
	r.doc.lines = append(r.doc.lines, l)
	p := cut(l)
	switch {
	case p.text == "" || p.text[0] == '#':
	case p.text[0] == '[':
		r.header(p)
	case r.section == "options":
		r.option(p)
	case r.section == "rules":
		r.rule(p, &r.doc.Rules)
	case r.section == "group":
		r.rule(p, &r.doc.Groups[len(r.doc.Groups)-1].Rules)
	case r.section == "aliases":
		r.alias(p)
	case r.section == "ipset":
		r.entry(p, &r.doc.IPSets[len(r.doc.IPSets)-1])
	case !r.started:
		r.refuse(p, 0, "", "line before the first section; expected a header such as [OPTIONS] or [RULES]")
	}
}

// A piece is a line without the blanks around it, and where it begins.
type piece struct {
	text   string
	line   int
	column int // of text[0], from 1
}

func cut(l text.Line) piece {
	body := strings.TrimLeft(l.Text, " \t\r\f\v")
	return piece{strings.TrimRight(body, " \t\r\f\v"), l.Number, len(l.Text) - len(body) + 1}
}

// uncomment splits a comment off the end.
func (p piece) uncomment() (piece, string) {
	body, comment, _ := strings.Cut(p.text, "#")
	p.text = strings.TrimRight(body, " \t")
	return p, strings.TrimSpace(comment)
}

func (r *Reader) refuse(p piece, offset int, key, message string) {
	r.doc.Problems = append(r.doc.Problems, text.Error{File: r.doc.File, Line: p.line, Column: p.column + offset, Key: key, Message: message})
}

func (r *Reader) warn(p piece, offset int, key, message string) {
	r.doc.Warnings = append(r.doc.Warnings, text.Error{File: r.doc.File, Line: p.line, Column: p.column + offset, Key: key, Message: message})
}

func (r *Reader) header(p piece) {
	r.started = true
	r.section = ""
	kind, name, comment := "", "", ""
	if m := plainHeader.FindStringSubmatch(p.text); m != nil {
		kind = strings.ToLower(m[1])
	} else if m := namedHeader.FindStringSubmatch(p.text); m != nil {
		kind, name, comment = strings.ToLower(m[1]), strings.ToLower(m[2]), m[3]
	} else {
		r.refuse(p, 0, "", "unknown section; expected one of ["+strings.ToUpper(strings.Join(sections[r.doc.Scope], "], ["))+"], the last two with a name")
		return
	}
	if !contains(sections[r.doc.Scope], kind) {
		r.refuse(p, 1, kind, "this file cannot have such a section")
		return
	}
	if name != "" && !r.begin(p, kind, name, comment) {
		return
	}
	r.section = kind
}

// begin opens a group or an IP set.
func (r *Reader) begin(p piece, kind, name, comment string) bool {
	offset := strings.Index(strings.ToLower(p.text), name)
	if !nameForm.MatchString(name) || len(name) > longestName[kind] {
		r.refuse(p, offset, name, "bad name; expected a letter, then letters, digits, '-' or '_'")
		return false
	}
	if kind == "group" {
		if !r.doc.define(kind, name, len(r.doc.Groups)) {
			r.refuse(p, offset, name, "group is defined twice")
		}
		r.doc.Groups = append(r.doc.Groups, Group{Line: p.line, Name: name, Comment: comment})
		return true
	}
	if !r.doc.define(kind, name, len(r.doc.IPSets)) {
		r.refuse(p, offset, name, "IP set is defined twice")
	}
	r.doc.IPSets = append(r.doc.IPSets, IPSet{Line: p.line, Name: name, Comment: comment})
	return true
}

var aliasLine = regexp.MustCompile(`^(\S+)\s(\S+)$`)

func (r *Reader) alias(p piece) {
	p, comment := p.uncomment()
	m := aliasLine.FindStringSubmatch(p.text)
	if m == nil {
		r.refuse(p, 0, "", "not an alias; expected 'NAME ADDRESS' with one blank between")
		return
	}
	name := strings.ToLower(m[1])
	if !nameForm.MatchString(name) {
		r.refuse(p, 0, m[1], "bad name; expected a letter, then letters, digits, '-' or '_'")
		return
	}
	address, err := ParseAddress(m[2])
	if err != nil || !address.IsNetwork() {
		r.refuse(p, len(m[1])+1, m[1], "'"+m[2]+"' is not an IP address or network"+because(err))
		return
	}
	if !r.doc.define("alias", name, len(r.doc.Aliases)) {
		r.refuse(p, 0, m[1], "alias is defined twice")
		return
	}
	r.doc.Aliases = append(r.doc.Aliases, Alias{Line: p.line, Name: name, Address: address, Comment: comment})
}

func (r *Reader) entry(p piece, set *IPSet) {
	p, comment := p.uncomment()
	body, negated := strings.CutPrefix(p.text, "!")
	body = strings.TrimLeft(body, " \t")
	offset := len(p.text) - len(body)
	address, err := ParseAddress(body)
	if err != nil || address.Set != "" || len(address.Ranges) > 1 {
		r.refuse(p, offset, set.Name, "'"+body+"' is not an IP address, a network or an alias"+because(err))
		return
	}
	if address.Alias != "" && r.missingAlias(address) {
		r.refuse(p, offset, set.Name, "no such alias '"+body+"' above this line")
		return
	}
	if !r.doc.define("ipset "+strconv.Itoa(set.Line), address.String(), len(set.Entries)) {
		r.warn(p, offset, set.Name, "'"+body+"' is in the set already")
		return
	}
	set.Entries = append(set.Entries, Entry{Line: p.line, Negated: negated, Address: address, Comment: comment})
}

// missingAlias reports whether an alias is defined neither above nor, as far
// as this file can tell, elsewhere.
func (r *Reader) missingAlias(a Address) bool {
	_, here := r.doc.Alias(a.Alias)
	return !here && !r.doc.elsewhere(a.Where) && !isLocalNetwork(a)
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
