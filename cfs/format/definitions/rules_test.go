package definitions

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/schema/schematest"
	"etcpve/fixtures/golden"
)

// published are the rules of one file as published.
type published struct {
	File       string
	Properties schematest.Keys
	Types      map[string]struct {
		Properties schematest.Keys
		Own        schematest.Keys `json:"own_properties"`
	}
}

// headed are the keys of published tables that stand in a section's header.
var headed = []string{"type", "id", "storage", "group", "sid", "rule", "vnet", "zone", "controller", "dns", "ipam", "subnet"}

// deliberate are the differences that are meant.
var deliberate = map[string]string{
	"storage authsupported: is missing": "no type takes it",
	"storage server2":                   "of glusterfs, which went with version 9",
	"storage volume":                    "of glusterfs",
	"storage transport":                 "of glusterfs",
	"jobs full: is missing":             "no type takes it",
	"jobs purge: is missing":            "no type takes it",
	"acme-plugins api":                  "the list grows with every release of acme.sh",
	"cpu-models reported-model":         "the list grows with every release of QEMU",
	"sdn dns reversev6mask: is missing": "no type takes it",
	"sdn controllers isis-net":          "the pattern is all that the named format asks for",
	"sdn fabrics ":                      "published as the union of protocols",
	"datacenter next-id lower=":         "an ID that no guest can have helps nobody",
	"datacenter next-id upper=":         "an ID that no guest can have helps nobody",
	"datacenter restore-power":          "a setting of our own",
}

// TestRulesAreThoseOfTheReference compares what every key accepts.
func TestRulesAreThoseOfTheReference(t *testing.T) {
	dir, met := golden.Dir(t, "schema"), map[string]bool{}
	for _, name := range []string{"storage", "jobs", "replication", "metric-servers", "acme-plugins", "cpu-models", "ha", "mapping", "sdn", "datacenter", "node"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Skip(err)
		}
		var one published
		if err := json.Unmarshal(text, &one); err != nil {
			t.Fatal(name, err)
		}
		all := map[string]published{"": one}
		if one.File == "" {
			clear(all)
			if err := json.Unmarshal(text, &all); err != nil {
				t.Fatal(name, err)
			}
		}
		for part, file := range all {
			if file.File == "" {
				continue // no file of its own
			}
			for _, line := range compareRules(strings.TrimSpace(name+" "+part), rulesOf(t, name, file.File), file.all()) {
				if !excused(line, met) {
					t.Error(line)
				}
			}
		}
	}
	for line := range deliberate {
		if !met[line] {
			t.Errorf("%s: no such difference", line)
		}
	}
}

// excused reports whether a difference is meant, and notes that it was met.
func excused(line string, met map[string]bool) bool {
	for start := range deliberate {
		if strings.HasPrefix(line, start) {
			met[start] = true
			return true
		}
	}
	return false
}

// all are the keys of all types.
func (p published) all() schema.Keys {
	keys := schema.Keys(p.Properties)
	for _, kind := range p.Types {
		maps.Copy(keys, schema.Keys(kind.Properties))
		maps.Copy(keys, schema.Keys(kind.Own))
	}
	return keys
}

func rulesOf(t *testing.T, name, file string) schema.Keys {
	t.Helper()
	switch name {
	case "datacenter":
		return Datacenter
	case "node":
		return Node
	}
	d, ok := Sectioned(file)
	if !ok {
		t.Fatalf("no definition of %s", file)
	}
	keys := maps.Clone(d.Base)
	for _, kind := range d.Types {
		maps.Copy(keys, kind.Properties)
	}
	return keys
}

func compareRules(at string, own, want schema.Keys) (lines []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		switch {
		case own[key] != nil:
			lines = append(lines, schematest.Differ(at+" "+key, own[key], want[key])...)
		case !slices.Contains(headed, key):
			lines = append(lines, at+" "+key+": is missing")
		}
	}
	for key := range own {
		if want[key] == nil {
			lines = append(lines, at+" "+key+": is not published")
		}
	}
	return lines
}
