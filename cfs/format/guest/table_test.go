package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
	"etcpve/fixtures/golden"
)

// goldenKeys reads a table of facts with its numbered keys spelled out.
func goldenKeys(t *testing.T, name string) schema.Keys {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(golden.Dir(t, "schema"), name))
	if err != nil {
		t.Skip(err)
	}
	var table struct {
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal(content, &table); err != nil {
		t.Fatal(err)
	}
	keys := schema.Keys{}
	for key, raw := range table.Properties {
		p, last := &schema.Property{}, struct{ Index []int }{}
		if err := json.Unmarshal(raw, p); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if err := json.Unmarshal(raw, &last); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if len(last.Index) == 0 {
			keys[key] = p
			continue
		}
		for i := last.Index[0]; i <= last.Index[1]; i++ {
			keys[key[:len(key)-len("[n]")]+strconv.Itoa(i)] = p
		}
	}
	return keys
}

func TestTablesAgreeWithFacts(t *testing.T) {
	for kind, name := range map[layout.Kind]string{layout.QEMU: "qemu.json", layout.LXC: "lxc.json"} {
		ours := Keys(kind)
		facts := goldenKeys(t, name)
		compareKeys(t, string(kind), ours, facts)
	}
}

func compareKeys(t *testing.T, path string, ours, facts schema.Keys) {
	t.Helper()
	for key := range ours {
		if facts[key] == nil {
			t.Errorf("%s: %s is not among the facts", path, key)
		}
	}
	for key, want := range facts {
		got := ours[key]
		if got == nil {
			t.Errorf("%s: %s is missing", path, key)
			continue
		}
		a := fmt.Sprint(got.Type, got.Format.Name, got.Enum, limit(got.Minimum), limit(got.Maximum), limit(got.MaxLength), got.Alias, got.KeyAlias, got.DefaultKey, got.Requires, got.Pattern != "", got.Optional || got.Alias != "")
		b := fmt.Sprint(want.Type, want.Format.Name, want.Enum, limit(want.Minimum), limit(want.Maximum), limit(want.MaxLength), want.Alias, want.KeyAlias, want.DefaultKey, want.Requires, want.Pattern != "", want.Optional || want.Alias != "")
		if a != b {
			t.Errorf("%s: %s is %s, want %s", path, key, a, b)
		}
		compareKeys(t, path+" "+key, got.Format.Keys, want.Format.Keys)
	}
}

func limit[T any](p *T) any {
	if p == nil {
		return "-"
	}
	return *p
}
