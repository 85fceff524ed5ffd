package cli

import (
	"fmt"
	"strings"

	"etcpve/cfs/format/schema"
)

// usage lists all commands.
func (t *Tool) usage() string {
	return t.listed(t.visible()) + fmt.Sprintf("\n       %s help [<command>]\n", t.Name)
}

// listed lists some of them.
func (t *Tool) listed(commands []Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "USAGE: %s <COMMAND> [ARGS] [OPTIONS]\n\n", t.Name)
	for _, c := range commands {
		fmt.Fprintf(&b, "       %s\n", t.synopsis(&c))
	}
	return b.String()
}

// synopsis is a command with its arguments, on one line.
func (t *Tool) synopsis(c *Command) string {
	words := []string{t.Name}
	if c.Words != "" {
		words = append(words, c.Words)
	}
	for _, p := range c.Args {
		form := "<" + p.Name + ">"
		if p.Rest {
			form += "..."
		}
		if p.Optional || p.Rest {
			form = "[" + form + "]"
		}
		words = append(words, form)
	}
	for _, o := range c.shown() {
		if !bool(o.rule.Optional) {
			words = append(words, "--"+o.name+" "+kindOf(o.rule))
		}
	}
	if len(c.Options) > 0 {
		words = append(words, "[OPTIONS]")
	}
	return strings.Join(words, " ")
}

// manual describes one command with its options.
func (t *Tool) manual(c *Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "USAGE: %s\n\n  %s\n", t.synopsis(c), c.Summary)
	for _, p := range c.Args {
		if p.Rule != nil {
			fmt.Fprintf(&b, "\n  <%s>  %s\n", p.Name, kindOf(p.Rule))
		}
	}
	for _, o := range c.shown() {
		fmt.Fprintf(&b, "\n  -%s  %s\n", o.name, kindOf(o.rule))
		if o.rule.Description != "" {
			fmt.Fprintf(&b, "      %s\n", o.rule.Description)
		}
	}
	return b.String()
}

// kindOf shows what a value looks like.
func kindOf(p *schema.Property) string {
	switch {
	case p.TypeText != "":
		return p.TypeText
	case p.Enum != nil:
		return "<" + strings.Join(p.Enum, " | ") + ">"
	case p.Type == "integer" && p.Minimum != nil && p.Maximum != nil:
		return fmt.Sprintf("<integer> (%.0f - %.0f)", *p.Minimum, *p.Maximum)
	case p.Type == "integer" && p.Minimum != nil:
		return fmt.Sprintf("<integer> (%.0f - N)", *p.Minimum)
	case len(p.Format.Keys) > 0:
		return "<key=value,...>"
	case p.Type != "":
		return "<" + p.Type + ">"
	}
	return "<string>"
}
