// Package format decides whether a file may be saved: it knows which format
// owns a path below /etc/pve and asks that format.
//
// It owns the map from paths to formats. A save is refused for what cannot be
// read; keys and section types that nobody knows are only warned of and
// survive. Files without a known format, and empty ones, always pass. The
// package never changes content and never opens a file.
package format

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"etcpve/cfs/format/corosync"
	"etcpve/cfs/format/definitions"
	"etcpve/cfs/format/firewall"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/section"
	"etcpve/cfs/format/settings"
	"etcpve/cfs/format/text"
	"etcpve/cfs/format/user"
	"etcpve/cfs/layout"
)

// A reader is one format's check. It takes a file line by line.
type reader interface {
	Line(text.Line)
	// Problems are those of the lines taken so far that no later line cures.
	Problems() []text.Error
	End() (refused, warnings []text.Error)
}

// Check judges the whole content of the file at path, relative to the mount.
func Check(path string, content []byte) (refused, warnings []text.Error) {
	c := NewChecker(path)
	c.take(content)
	return c.End()
}

// Known reports whether a format owns path.
func Known(path string) bool { return readerOf(path) != nil }

// A Checker judges a file while it is being written, so that the write that
// brings a bad line can be refused itself: some programs ignore what close
// says. It is for one goroutine.
type Checker struct {
	reader   reader // nil for a file without a format
	rest     []byte // the line that is not ended yet
	number   int    // of lines taken
	reported int    // problems returned so far
}

// NewChecker returns a checker for the file at path, relative to the mount.
func NewChecker(path string) *Checker { return &Checker{reader: readerOf(path)} }

// Write takes the next part of the file. If the lines that it completes are
// wrong, it returns all that is wrong so far.
func (c *Checker) Write(part []byte) []text.Error {
	if c.reader == nil || !c.take(part) {
		return nil
	}
	problems := c.reader.Problems()
	if len(problems) == c.reported {
		return nil
	}
	c.reported = len(problems)
	return problems
}

// End returns everything that is wrong with the file, and what is doubtful.
func (c *Checker) End() (refused, warnings []text.Error) {
	if c.reader == nil {
		return nil, nil
	}
	if len(c.rest) > 0 {
		c.line(string(c.rest))
		c.rest = nil
	}
	return c.reader.End()
}

// take passes on complete lines and reports whether there were any.
func (c *Checker) take(part []byte) bool {
	if c.reader == nil {
		return false
	}
	end := bytes.LastIndexByte(part, '\n') + 1
	if end == 0 {
		c.rest = append(c.rest, part...)
		return false
	}
	complete := string(c.rest) + string(part[:end])
	c.rest = append(c.rest[:0], part[end:]...)
	for l := range strings.SplitAfterSeq(complete, "\n") {
		if l != "" {
			c.line(l)
		}
	}
	return true
}

func (c *Checker) line(raw string) {
	for _, l := range text.Lines(raw) {
		c.number++
		l.Number = c.number
		c.reader.Line(l)
	}
}

// readerOf returns the check that owns path, nil if there is none.
func readerOf(path string) reader {
	if g, ok := layout.GuestOf(path); ok {
		return &whole{file: path, check: checkGuest(g), early: true}
	}
	if d, ok := definitions.Sectioned(path); ok {
		return section.NewReader(d, path)
	}
	if scope, ok := firewall.ScopeOf(path); ok {
		return &rules{firewall.NewReader(scope, path)}
	}
	if _, ok := layout.PowerOf(path); ok {
		return &power{file: path}
	}
	switch parts := strings.Split(path, "/"); {
	case path == "user.cfg":
		return user.NewReader(path)
	case path == "datacenter.cfg":
		return settings.NewReader(definitions.Datacenter, path)
	case len(parts) == 3 && parts[0] == "nodes" && parts[2] == "config":
		return settings.NewReader(definitions.Node, path)
	case path == corosync.File || path == corosync.File+".new":
		return &whole{file: path, check: checkCorosync}
	}
	return nil
}

// rules is the firewall's reader, which returns a document.
type rules struct{ *firewall.Reader }

// End returns the document's problems.
func (r *rules) End() (refused, warnings []text.Error) {
	d := r.Document()
	return d.Problems, d.Warnings
}

// whole is a check that takes the file at once.
type whole struct {
	file    string
	check   func(content string) (refused, warnings []text.Error)
	early   bool // what is wrong with the first lines stays wrong
	content strings.Builder
}

// longestEarly bounds the content that is judged again with every write.
const longestEarly = 64 << 10

// Line keeps the line for later.
func (w *whole) Line(l text.Line) { w.content.WriteString(l.Raw()) }

// Problems judges what is there so far.
func (w *whole) Problems() []text.Error {
	if !w.early || w.content.Len() > longestEarly {
		return nil
	}
	refused, _ := w.End()
	return refused
}

// End judges the file.
func (w *whole) End() (refused, warnings []text.Error) {
	if w.content.Len() == 0 {
		return nil, nil
	}
	refused, warnings = w.check(w.content.String())
	for _, list := range [][]text.Error{refused, warnings} {
		for i := range list {
			list[i].File = w.file
		}
	}
	return refused, warnings
}

func checkGuest(g layout.Guest) func(string) (refused, warnings []text.Error) {
	return func(content string) (refused, warnings []text.Error) {
		r, w := guest.Check(g.Kind, g.VMID, content)
		return values(r), values(w)
	}
}

func values(list []*text.Error) []text.Error {
	var all []text.Error
	for _, e := range list {
		all = append(all, *e)
	}
	return all
}

func checkCorosync(content string) (refused, _ []text.Error) {
	if _, err := corosync.Parse(content); err != nil {
		if e, ok := err.(*text.Error); ok {
			return []text.Error{*e}, nil
		}
		return []text.Error{{Message: err.Error()}}, nil
	}
	return nil, nil
}

// PowerStates are the words that a file below power may hold.
var PowerStates = []string{"running", "stopped", "paused"}

// power is the check of a guest's desired run state.
type power struct {
	file     string
	problems []text.Error
}

// Line takes the only line, which has to be ended.
func (p *power) Line(l text.Line) {
	message := ""
	switch {
	case l.Number > 1:
		message = "expected a single line"
	case !slices.Contains(PowerStates, l.Text):
		message = fmt.Sprintf("'%s' is not a run state; expected one of %s", l.Text, strings.Join(PowerStates, ", "))
	case l.End != "\n":
		message = "expected a line feed after the run state"
	}
	if message != "" {
		p.problems = append(p.problems, text.Error{File: p.file, Line: l.Number, Column: 1, Message: message})
	}
}

// Problems returns what is wrong.
func (p *power) Problems() []text.Error { return p.problems }

// End returns what is wrong.
func (p *power) End() (refused, warnings []text.Error) { return p.problems, nil }
