package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mdoc returns the list of commands for the man page, in mdoc(7). Options are
// listed only where they are few: the keys of a configuration have a page of
// their own.
func (t *Tool) Mdoc() string {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, c := range t.visible() {
		b.WriteString(".It")
		if c.Words != "" {
			b.WriteString(" Cm " + c.Words)
		} else {
			b.WriteString(" Nm " + t.Name)
		}
		for _, p := range c.Args {
			switch {
			case p.Rest:
				b.WriteString(" Op Ar " + p.Name + " ...")
			case p.Optional:
				b.WriteString(" Op Ar " + p.Name)
			default:
				b.WriteString(" Ar " + p.Name)
			}
		}
		b.WriteString("\n")
		options := c.shown()
		if len(options) <= maxListed {
			for _, o := range options {
				form := "Fl -" + o.name
				if o.rule.Type != "boolean" {
					form += " Ar " + valueName(o)
				}
				if o.rule.Optional {
					form = "Op " + form
				}
				b.WriteString("." + form + "\n")
			}
		} else {
			b.WriteString(".Op Fl - Ns Ar key Ar value\n.Ar ...\n")
		}
		if len(options) > 0 {
			b.WriteString(".Pp\n")
		}
		// mdoc wants each sentence on a line of its own.
		b.WriteString(strings.ReplaceAll(c.Summary, ". ", ".\n") + "\n")
	}
	b.WriteString(".El\n")
	return b.String()
}

// maxListed is how many options a man page lists one by one.
const maxListed = 12

func valueName(o option) string {
	if o.rule.Type == "integer" || o.rule.Type == "number" {
		return "number"
	}
	return "value"
}

// Bash returns the completion of the tool for bash(1).
func (t *Tool) Bash() string {
	var b strings.Builder
	function := "_" + strings.ReplaceAll(t.Name, "-", "_")
	fmt.Fprintf(&b, "# Completion of %s for bash; generated from its table of commands.\n%s() {\n", t.Name, function)
	b.WriteString("\tlocal word=${COMP_WORDS[COMP_CWORD]} command=\"${COMP_WORDS[*]:1:COMP_CWORD-1}\" words\n")
	b.WriteString("\tcase \" $command \" in\n")
	for _, c := range slices.Backward(t.visible()) {
		if c.Words == "" {
			continue
		}
		var words []string
		for _, name := range slices.Sorted(maps.Keys(c.Options)) {
			words = append(words, "--"+name)
		}
		fmt.Fprintf(&b, "\t\" %s \"*) words='%s'\n\t\t", c.Words, strings.Join(words, " "))
		if i := slices.IndexFunc(c.Args, func(p Param) bool { return p.Name == "vmid" }); i == 0 {
			b.WriteString("[[ $word != -* ]] && words=$(" + t.Name + " list 2>/dev/null | awk 'NR > 1 { print $1 }')\n\t\t")
		}
		b.WriteString(";;\n")
	}
	groups := t.groups()
	for _, first := range slices.Sorted(maps.Keys(groups)) {
		if first != "" {
			fmt.Fprintf(&b, "\t\" %s \"*) words='%s' ;;\n\t", first, strings.Join(slices.Sorted(maps.Keys(groups[first])), " "))
		}
	}
	fmt.Fprintf(&b, "\t*) words='%s' ;;\n\tesac\n", strings.Join(slices.Sorted(maps.Keys(groups[""])), " "))
	fmt.Fprintf(&b, "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n}\ncomplete -o default -F %s %s\n", function, t.Name)
	return b.String()
}

// groups are the words that a command begins with, under "", and those that go on
// behind such a word.
func (t *Tool) groups() map[string]map[string]bool {
	all := map[string]map[string]bool{"": {"help": true}}
	for _, c := range t.visible() {
		first, rest, more := strings.Cut(c.Words, " ")
		if first == "" {
			continue
		}
		all[""][first] = true
		if more {
			if all[first] == nil {
				all[first] = map[string]bool{}
			}
			second, _, _ := strings.Cut(rest, " ")
			all[first][second] = true
		}
	}
	return all
}
