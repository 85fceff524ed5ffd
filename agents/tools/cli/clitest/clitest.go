// Package clitest compares the table of commands of a tool with the facts that
// are published of the tool of the same name in Proxmox VE.
//
// It owns what has to agree: the commands and their other names, the order of
// arguments, the options, and what each of them accepts. It never runs a command.
package clitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/schema/schematest"
	"etcpve/fixtures/golden"
)

// A fact is one command as published.
type fact struct {
	Command, Positional []string
	AliasOf             []string        `json:"alias_of"`
	Options             schematest.Keys `json:"options"`
	Arguments           schematest.Keys `json:"positional_options"`
	Output              schematest.Keys `json:"output_options"`
	AllOf               []branch        `json:"parameters_allOf"`
	List                json.RawMessage `json:"positional_list"`
}

// A branch is one of several forms that a command's options have.
type branch struct {
	Properties schematest.Keys
	OneOf      []branch
}

func (b branch) collect(all schema.Keys) {
	maps.Copy(all, schema.Keys(b.Properties))
	for _, one := range b.OneOf {
		one.collect(all)
	}
}

// Check fails for each difference that is not among the known ones, and for each
// known one that is none any more. The known ones come with their reason; a
// difference may be named by the words before its colon, too. On a machine
// without the facts the test is skipped.
func Check(t *testing.T, tool *cli.Tool, known map[string]string) {
	t.Helper()
	met := map[string]bool{}
	for _, line := range Differences(t, tool) {
		words, _, _ := strings.Cut(line, ": ")
		switch {
		case known[line] != "":
			met[line] = true
		case known[words] != "":
			met[words] = true
		default:
			t.Errorf("%s %s", tool.Name, line)
		}
	}
	for name := range known {
		if !met[name] {
			t.Errorf("%s %s: no such difference", tool.Name, name)
		}
	}
}

// Differences returns what a tool does not have, or has otherwise, a line each.
func Differences(t testing.TB, tool *cli.Tool) (lines []string) {
	t.Helper()
	var facts []fact
	read(t, "cli", tool.Name+".json", &facts)
	var formats struct {
		Formats map[string]struct{ Properties schematest.Keys }
	}
	read(t, "schema", "formats.json", &formats)
	for _, f := range facts {
		for _, p := range f.Options {
			p.Format.Keys = cmpKeys(p.Format.Keys, schema.Keys(formats.Formats[p.Format.Name].Properties))
		}
	}
	theirs, ours := map[string]fact{}, map[string]cli.Command{}
	for _, f := range facts {
		theirs[strings.Join(f.Command, " ")] = f
	}
	for _, c := range tool.Commands {
		ours[c.Words] = c
	}
	for words, f := range theirs {
		c, known := ours[words]
		other := strings.Join(f.AliasOf, " ")
		switch {
		case !known:
			lines = append(lines, words+": is missing")
		case other != c.Alias && !same(ours[other], c):
			lines = append(lines, fmt.Sprintf("%s: stands for '%s', want '%s'", words, c.Alias, other))
		case other == "":
			lines = append(lines, compare(c, f)...)
		}
	}
	for words := range ours {
		if _, known := theirs[words]; !known {
			lines = append(lines, words+": is no command of Proxmox VE")
		}
	}
	slices.Sort(lines)
	return lines
}

func read(t testing.TB, suite, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(golden.Dir(t, suite), name))
	if err != nil {
		t.Skip(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func cmpKeys(own, named schema.Keys) schema.Keys {
	if own == nil {
		return named
	}
	return own
}

// same reports whether two commands take the same words.
func same(a, b cli.Command) bool {
	return fmt.Sprint(names(a)) == fmt.Sprint(names(b)) && maps.EqualFunc(a.Options, b.Options, func(x, y *schema.Property) bool { return x == y })
}

func names(c cli.Command) []string {
	all := []string{}
	for _, a := range c.Args {
		all = append(all, a.Name)
	}
	return all
}

// compare compares one command.
func compare(c cli.Command, f fact) (lines []string) {
	say := func(format string, a ...any) { lines = append(lines, c.Words+": "+fmt.Sprintf(format, a...)) }
	if got := names(c); !slices.Equal(got, f.Positional) {
		say("takes %q, want %q", got, f.Positional)
	}
	want := schema.Keys{}
	maps.Copy(want, schema.Keys(f.Options))
	maps.Copy(want, schema.Keys(f.Output))
	for _, b := range f.AllOf {
		b.collect(want)
	}
	for _, a := range c.Args {
		p := f.Arguments[a.Name]
		if p == nil {
			p = want[a.Name]
		}
		delete(want, a.Name)
		if p == nil || a.Rule == nil {
			continue
		}
		if bool(p.Optional) != a.Optional && !a.Rest {
			say("<%s> is optional: %v, want %v", a.Name, a.Optional, p.Optional)
		}
		lines = append(lines, schematest.Differ(c.Words+": <"+a.Name+">", a.Rule, p)...)
	}
	for name, p := range want {
		o := c.Options[name]
		if o == nil {
			say("--%s is missing", name)
			continue
		}
		if o.Optional != p.Optional && f.AllOf == nil { // of several forms, each has its own

			say("--%s is optional: %v, want %v", name, o.Optional, p.Optional)
		}
		lines = append(lines, schematest.Differ(c.Words+": --"+name, o, p)...)
	}
	for name := range c.Options {
		if want[name] == nil {
			say("--%s is no option of Proxmox VE", name)
		}
	}
	return lines
}
