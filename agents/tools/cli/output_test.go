package cli

import (
	"strings"
	"testing"
)

func TestPrintFollowsTheOptions(t *testing.T) {
	records := []Record{
		{"rule": "home", "enabled": 1, "resources": []string{"vm:100", "ct:101"}, "comment": "für alle\n"},
		{"rule": "no", "enabled": 0},
	}
	columns := []string{"enabled", "rule", "resources"}
	for _, c := range []struct{ options, locale, want string }{
		{"", "C", `
+---------+------+---------------+
| enabled | rule | resources     |
+=========+======+===============+
| 1       | home | vm:100,ct:101 |
+---------+------+---------------+
| 0       | no   |               |
+---------+------+---------------+
`},
		{"noheader", "de_DE.UTF-8", `
┌───┬──────┬───────────────┐
│ 1 │ home │ vm:100,ct:101 │
├───┼──────┼───────────────┤
│ 0 │ no   │               │
└───┴──────┴───────────────┘
`},
		{"noborder", "C", `
enabled rule resources
1       home vm:100,ct:101
0       no
`},
		{"quiet", "C", "\n"},
		{"output-format=json", "C", `
[{"comment":"für alle\n","enabled":1,"resources":["vm:100","ct:101"],"rule":"home"},{"enabled":0,"rule":"no"}]
`},
		{"output-format=yaml", "C", `
---
- comment: "für alle\n"
  enabled: 1
  resources: ["vm:100","ct:101"]
  rule: home
- enabled: 0
  rule: "no"
`},
	} {
		t.Setenv("LC_ALL", c.locale)
		var out strings.Builder
		name, value, _ := strings.Cut(c.options+"=1", "=")
		call := &Call{Values: map[string]string{name: strings.TrimSuffix(value, "=1")}, Out: &out}
		if err := call.Print(columns, records); err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimPrefix(c.want, "\n"); out.String() != want {
			t.Errorf("%s:\n got\n%s\nwant\n%s", c.options, &out, want)
		}
	}
}

func TestPrintOfNothing(t *testing.T) {
	for format, want := range map[string]string{"json": "[]\n", "json-pretty": "[]\n", "yaml": "--- []\n"} {
		var out strings.Builder
		call := &Call{Values: map[string]string{"output-format": format}, Out: &out}
		if err := call.Print([]string{"rule"}, nil); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v", format, &out, err)
		}
	}
}
