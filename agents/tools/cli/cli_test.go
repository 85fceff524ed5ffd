package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
)

func bound(n float64) *float64 { return &n }

func lampTool(run func(*Call) error) *Tool {
	optional := func(p *schema.Property) *schema.Property { p.Optional = true; return p }
	number := schema.Integer()
	number.Minimum, number.Maximum = bound(1), bound(9)
	do := func(_ context.Context, c *Call) error { return run(c) }
	return &Tool{Name: "lamp", Summary: "control lamps", Commands: []Command{
		{Words: "list", Summary: "List lamps.", Run: do},
		{Words: "set", Summary: "Set a lamp.", Run: do, Args: []Param{{Name: "id", Rule: number}}, Options: schema.Keys{
			"on": optional(schema.Truth()), "colour": optional(schema.Choice("red", "blue")), "colder": optional(schema.Text()),
			"tags":  optional(&schema.Property{Type: "string", Format: schema.Format{Name: "string-list"}}),
			"bulb0": optional(schema.Text()), "bulb1": optional(schema.Text()),
		}},
		{Words: "group add", Summary: "Add lamps.", Run: do, Args: []Param{{Name: "name"}, {Name: "lamp", Rest: true}},
			Options: schema.Keys{"room": {Type: "string"}}},
		{Words: "gone", Summary: "Fail.", Run: do, Hidden: true},
	}}
}

func TestCommandLines(t *testing.T) {
	for line, want := range map[string]string{
		"list":                     "0 map[] [] []",
		"set 3 --on --colour red":  "0 map[colour:red id:3 on:1] [on colour] []",
		"set -colour=red -on no 3": "0 map[colour:red id:3 on:0] [colour on] []",
		"set 3 --colou blue":       "0 map[colour:blue id:3] [colour] []",
		"set 3 --tags a --tags b":  "0 map[id:3 tags:a,b] [tags] []",
		"set 3 --colder=-4":        "0 map[colder:-4 id:3] [colder] []",
		"set -- 3":                 "0 map[id:3] [] []",
		"group add g --room r 1 2": "0 map[name:g room:r] [room] [1 2]",
		"":                         "255 ERROR: no command specified|USAGE",
		"dim":                      "255 ERROR: unknown command 'lamp dim'|USAGE",
		"s 3 --on":                 "0 map[id:3 on:1] [on] []",
		"gro a g --room r":         "0 map[name:g room:r] [room] []",
		"gon":                      "255 ERROR: unknown command 'lamp gon'|USAGE",
		"group":                    "255 ERROR: incomplete command 'lamp group'|USAGE: lamp <COMMAND> [ARGS] [OPTIONS]||       lamp group add <name>",
		"set":                      "255 400 not enough arguments|lamp set <id> [OPTIONS]",
		"set 1 2":                  "255 400 too many arguments|lamp set <id> [OPTIONS]",
		"set 3 --col red":          "255 Option col is ambiguous (colder, colour)|400 unable to parse option|lamp set",
		"set 3 --loud":             "255 Unknown option: loud|400 unable to parse option|lamp set",
		"set 3 --colour":           "255 Option colour requires an argument|400 unable",
		"set 3 --on maybe":         "255 400 unable to parse boolean option|lamp set",
		"set 0":                    "255 400 Parameter verification failed.|id: value must have a minimum value of 1|lamp set",
		"set x --colour green":     "255 400 Parameter verification failed.|colour: value 'green' does not have a value in the enumeration 'red, blue'|id: type check ('integer') failed - got 'x'|lamp set",
		"group add g":              "255 400 Parameter verification failed.|room: property is missing and it is not optional|lamp group add <name> [<lamp>...] --room <string> [OPTIONS]",
		"help dim":                 "255 no such command 'dim'",
	} {
		var got string
		tool := lampTool(func(c *Call) error { got = fmt.Sprint(c.Values, c.Given, c.Rest); return nil })
		var out, err strings.Builder
		code := tool.Run(t.Context(), strings.Fields(line), nil, &out, &err)
		got = fmt.Sprint(code, " ", got, strings.ReplaceAll(err.String(), "\n", "|"))
		if !strings.HasPrefix(got, want) {
			t.Errorf("lamp %s\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for code, e := range map[int]error{0: nil, 255: errors.New("no"), 2: fmt.Errorf("lamp: %w", &Coded{ExitAbsent, errors.New("none")})} {
		var out, err strings.Builder
		if got := lampTool(func(*Call) error { return e }).Run(t.Context(), []string{"gone"}, nil, &out, &err); got != code {
			t.Errorf("%v: exit code %d, want %d", e, got, code)
		}
		if e != nil && err.String() != e.Error()+"\n" {
			t.Errorf("%v is told as %q", e, err.String())
		}
	}
}

func TestTextsComeFromTheTable(t *testing.T) {
	tool := lampTool(func(*Call) error { return nil })
	var out, err strings.Builder
	tool.Run(t.Context(), []string{"help", "set", "--verbose"}, nil, &out, &err)
	for _, part := range []string{"USAGE: lamp set <id> [OPTIONS]", "-bulb[n]  <string>", "-colour  <red | blue>", "<id>  <integer> (1 - 9)"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("help without %q:\n%s", part, out.String())
		}
	}
	if strings.Contains(tool.usage(), "gone") || strings.Contains(tool.Mdoc(), "gone") {
		t.Error("a hidden command is shown")
	}
	for _, part := range []string{".It Cm set Ar id\n", ".Op Fl -on\n", ".Op Fl -colour Ar value\n", ".It Cm group add Ar name Op Ar lamp ...\n.Fl -room"} {
		if !strings.Contains(tool.Mdoc(), part) {
			t.Errorf("man page without %q:\n%s", part, tool.Mdoc())
		}
	}
	for _, part := range []string{"words='group help list set'", "--bulb0 --bulb1 --colder --colour", "complete -o default -F _lamp lamp"} {
		if !strings.Contains(tool.Bash(), part) {
			t.Errorf("completion without %q:\n%s", part, tool.Bash())
		}
	}
}
