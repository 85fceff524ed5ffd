package firewall

import (
	"regexp"
	"strings"

	"etcpve/cfs/format/text"
)

// A Rule is one line of [RULES] or of a group.
type Rule struct {
	Line    int
	Enabled bool
	Type    string // in, out, forward or group
	Action  string // ACCEPT, DROP or REJECT; for type group the group's name
	Macro   string // as the macro table spells it; empty for none
	Iface   string

	Source, Dest  string // see ParseAddress
	Proto         string
	Dport, Sport  string // see ParsePorts; Dport may be an ICMP type
	ICMPType, Log string
	Comment       string

	// Invalid says why the rule has no effect; nil for a good one. A name that
	// is defined nowhere is not among the reasons: that takes other files.
	Invalid *text.Error

	columns map[string]int // where each value stands in the line, from 1
}

var (
	ruleHead   = regexp.MustCompile(`^(\S+)\s+(\S+)\s*`)
	ruleOption = regexp.MustCompile(`^(-i|-p|--?(?:proto|dport|sport|source|dest|log|icmp-type)) (\S+)\s*`)
	macroForm  = regexp.MustCompile(`^(\S+)\((ACCEPT|DROP|REJECT)\)$`)
)

// option returns the place of the value of a rule's option, named without dashes.
func (u *Rule) option(name string) *string {
	switch name {
	case "i":
		return &u.Iface
	case "p", "proto":
		return &u.Proto
	case "dport":
		return &u.Dport
	case "sport":
		return &u.Sport
	case "source":
		return &u.Source
	case "dest":
		return &u.Dest
	case "log":
		return &u.Log
	}
	return &u.ICMPType
}

// String returns the rule in canonical form, without a line end.
func (u Rule) String() string {
	var b strings.Builder
	if !u.Enabled {
		b.WriteByte('|')
	}
	b.WriteString(strings.ToUpper(u.Type) + " ")
	if u.Macro != "" {
		b.WriteString(u.Macro + "(" + u.Action + ")")
	} else {
		b.WriteString(u.Action)
	}
	for _, name := range []string{"i", "source", "dest", "p", "dport", "sport", "icmp-type", "log"} {
		if value := *u.option(name); value != "" {
			b.WriteString(" -" + name + " " + value)
		}
	}
	if u.Comment != "" {
		b.WriteString(" # " + u.Comment)
	}
	return b.String()
}

// rule reads a line of [RULES] or of a group into rules.
func (r *Reader) rule(p piece, rules *[]Rule) {
	whole := p
	p, comment := p.uncomment()
	u := Rule{Line: p.line, Enabled: true, Comment: comment, columns: map[string]int{"": p.column}}
	body, off := strings.CutPrefix(p.text, "|")
	if off {
		u.Enabled = false
	}
	start := len(p.text) - len(body)
	m := ruleHead.FindStringSubmatchIndex(body)
	if m == nil {
		r.refuse(whole, 0, "", "not a rule; expected 'IN|OUT|FORWARD ACTION [-option value …]' or 'GROUP name'")
		return
	}
	u.Type, u.Action = strings.ToLower(body[:m[3]]), body[m[4]:m[5]]
	u.columns["action"] = p.column + start + m[4]
	if !contains([]string{"in", "out", "forward", "group"}, u.Type) {
		r.refuse(p, start, body[:m[3]], "unknown type of rule; expected IN, OUT, FORWARD or GROUP")
		return
	}
	if !r.ruleOptions(p, start+m[1], &u) {
		return
	}
	u.macro()
	u.Invalid = u.check(p, r.doc.Scope, r.section == "group")
	if u.Invalid != nil {
		u.Invalid.File = r.doc.File
		r.doc.Problems = append(r.doc.Problems, *u.Invalid)
	}
	*rules = append(*rules, u)
}

// ruleOptions reads what follows the action.
func (r *Reader) ruleOptions(p piece, at int, u *Rule) bool {
	for at < len(p.text) {
		m := ruleOption.FindStringSubmatchIndex(p.text[at:])
		if m == nil {
			r.refuse(p, at, "", unreadable(p.text[at:]))
			return false
		}
		name := strings.TrimLeft(p.text[at+m[2]:at+m[3]], "-")
		value := p.text[at+m[4] : at+m[5]]
		if u.Type == "group" && name != "i" {
			r.refuse(p, at, name, "a GROUP line can only have the option -i")
			return false
		}
		if name == "log" && !contains(LogLevels, value) {
			r.refuse(p, at+m[4], name, "bad log level '"+value+"'; expected one of "+strings.Join(LogLevels, ", "))
			return false
		}
		place := u.option(name)
		if *place != "" {
			r.refuse(p, at, name, "option is given twice")
		}
		*place = value
		u.columns[name] = p.column + at + m[4]
		at += m[1]
	}
	return true
}

func unreadable(rest string) string {
	word, _, more := strings.Cut(rest, " ")
	switch {
	case !strings.HasPrefix(word, "-"):
		return "unexpected '" + word + "'; options begin with '-' and have one blank before the value"
	case !more || strings.TrimSpace(rest[len(word):]) == "":
		return "option '" + word + "' is unknown or has no value"
	}
	return "unknown option '" + word + "', or more than one blank before its value; expected -i, -source, -dest, -p, -dport, -sport, -icmp-type or -log"
}

// macro takes Macro(ACTION) apart.
func (u *Rule) macro() {
	if u.Type == "group" {
		return
	}
	if m := macroForm.FindStringSubmatch(u.Action); m != nil {
		u.Macro, u.Action = m[1], m[2]
		if known, ok := FindMacro(m[1]); ok {
			u.Macro = known.Name
		}
	}
}
