package guest

import (
	"errors"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// Check judges the content of a configuration before it is saved. Refusals
// say where, which key and what was expected; a save with any must not be
// accepted. Warnings are settings and sections that are not known or have no
// effect: they are kept.
func Check(kind layout.Kind, vmid uint32, content string) (refusals, warnings []*text.Error) {
	_, problems := Parse(kind, vmid, content)
	known := map[int]bool{}
	for _, p := range problems {
		place := p.Place
		known[place.Line] = true
		if p.Unknown {
			warnings = append(warnings, &place)
		} else {
			refusals = append(refusals, &place)
		}
	}
	limits, twice := checkLines(kind, content, known)
	return append(refusals, limits...), append(warnings, twice...)
}

// checkLines judges what Parse leaves open: the limits of whole values, and
// settings that a later line of the same section replaces. Lines in known have
// a problem already.
func checkLines(kind layout.Kind, content string, known map[int]bool) (refusals, warnings []*text.Error) {
	var name sectionName
	seen := map[string]int{}
	for _, line := range text.Lines(content) {
		parsed := readLine(kind, line.Text)
		switch parsed.kind {
		case headerLine:
			name = sectionOf(kind, parsed.value)
			clear(seen)
		case settingLine:
			if first := seen[parsed.key]; first > 0 && parsed.key != "description" {
				warnings = append(warnings, &text.Error{Line: line.Number, Column: 1, Key: parsed.key, Message: "set again; only the last one counts"})
			}
			seen[parsed.key] = line.Number
			if name.kind == specialSection || name.kind == unknownSection || parsed.key == "description" {
				continue
			}
			if err := checkLimits(Keys(kind)[parsed.key], parsed); err != nil && !known[line.Number] {
				err.Line = line.Number
				refusals = append(refusals, err)
			}
		}
	}
	return refusals, warnings
}

// checkLimits judges a value whose form Parse has judged.
func checkLimits(p *schema.Property, parsed parsedLine) *text.Error {
	var refusal *schema.Error
	if p == nil || !errors.As(p.CheckLimits(parsed.value), &refusal) {
		return nil
	}
	return &text.Error{Column: parsed.column, Key: parsed.key, Message: refusal.Reason}
}
