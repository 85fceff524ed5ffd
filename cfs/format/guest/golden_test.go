package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"etcpve/cfs/layout"
	"etcpve/fixtures/golden"
)

const suite = "qemu-config"

func read(t *testing.T, part, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(golden.Dir(t, suite), part, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestGoldenParse(t *testing.T) {
	type parseCase struct {
		Name, Input, Expected       string
		VMID                        uint32
		Unchanged                   bool
		StrictError, NonStrictError *string
	}
	var cases []parseCase
	for _, raw := range golden.Cases[map[string]any](t, suite, "parse") {
		c := parseCase{Name: raw["name"].(string), Input: raw["input"].(string), Expected: raw["expected"].(string), VMID: uint32(raw["vmid"].(float64))}
		if e, ok := raw["strict_error"].(string); ok {
			c.StrictError = &e
		}
		if e, ok := raw["non_strict_error"].(string); ok {
			c.NonStrictError = &e
		}
		cases = append(cases, c)
	}
	for _, c := range cases {
		golden.Case(t, suite, "parse/"+c.Name, func(t *testing.T) {
			config, problems := Parse(layout.QEMU, c.VMID, read(t, "parse", c.Input))
			if c.StrictError == nil && len(problems) > 0 {
				t.Errorf("problem %q, want none", problems[0])
			}
			if c.StrictError != nil && (len(problems) == 0 || problems[0].Full != *c.StrictError) {
				t.Errorf("problems %v, want %q first", problems, *c.StrictError)
			}
			if c.NonStrictError != nil {
				t.Fatalf("lenient reading never stops, but must with %q", *c.NonStrictError)
			}
			if got, want := config.Text(), read(t, "parse", c.Expected); got != want {
				t.Errorf("text\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestGoldenCorpus(t *testing.T) {
	type corpusCase struct {
		Config, Canonical string
		VMID              uint32
	}
	for _, c := range golden.Cases[corpusCase](t, suite, "corpus") {
		golden.Case(t, suite, "corpus/"+c.Config, func(t *testing.T) {
			content := read(t, "corpus", c.Config)
			config, problems := Parse(layout.QEMU, c.VMID, content)
			for _, p := range problems {
				t.Errorf("problem %q", p)
			}
			if got, want := config.Text(), read(t, "corpus", c.Canonical); got != want {
				t.Errorf("text\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestCorpusIsKept holds the corpus against what its cases do not ask for: that
// a save is taken, that an update without a change changes nothing, and that
// volumes are read as they are written.
func TestCorpusIsKept(t *testing.T) {
	type corpusCase struct {
		Config string
		VMID   uint32
	}
	for _, c := range golden.Cases[corpusCase](t, suite, "corpus") {
		content := read(t, "corpus", c.Config)
		config, _ := Parse(layout.QEMU, c.VMID, content)
		refusals, _ := Check(layout.QEMU, c.VMID, content)
		for _, refusal := range refusals {
			t.Errorf("%s: check: %v", c.Config, refusal)
		}
		if got := Update(content, config); got != content {
			t.Errorf("%s: an update without a change gives\n%s\nwant\n%s", c.Config, got, content)
		}
		for _, v := range Volumes(layout.QEMU, config.Main) {
			if again, err := ParseVolume(layout.QEMU, v.Key, v.String()); err != nil || !reflect.DeepEqual(again, v) {
				t.Errorf("%s: %s: %q reads as %v, %v", c.Config, v.Key, v, again, err)
			}
		}
	}
}

func TestGoldenRestore(t *testing.T) {
	type restoreCase struct {
		Name, Input, Expected string
		VolumeMap             map[string]string `json:"volume_map"`
	}
	for _, c := range golden.Cases[restoreCase](t, suite, "restore") {
		golden.Case(t, suite, "restore/"+c.Name, func(t *testing.T) {
			input := read(t, "restore", c.Input)
			if got, want := Restore(input, c.VolumeMap), read(t, "restore", c.Expected); got != want {
				t.Errorf("restored\n%s\nwant\n%s", got, want)
			}
		})
		if drives := BackupDrives(read(t, "restore", c.Input)); len(drives) != len(c.VolumeMap) {
			t.Errorf("%s: drives %v, want %d", c.Name, drives, len(c.VolumeMap))
		}
	}
}

func TestGoldenPending(t *testing.T) {
	type pendingCase struct {
		Name, Function     string
		Params             []json.RawMessage
		Expected           json.RawMessage
		ExpectedParamAfter *struct {
			Index int
			Value json.RawMessage
		} `json:"expected_param_after"`
	}
	for _, c := range golden.Cases[pendingCase](t, suite, "pending") {
		golden.Case(t, suite, "pending/"+c.Name, func(t *testing.T) {
			want := c.Expected
			if c.ExpectedParamAfter != nil {
				want = c.ExpectedParamAfter.Value
			}
			got := callPending(t, c.Function, c.Params)
			if a, b := plain(t, got), plain(t, string(want)); !reflect.DeepEqual(a, b) {
				t.Errorf("%s gives %v, want %v", c.Function, a, b)
			}
		})
	}
}

// callPending calls one function on JSON parameters and returns JSON.
func callPending(t *testing.T, function string, params []json.RawMessage) string {
	t.Helper()
	text := func(i int) (s string) {
		if err := json.Unmarshal(params[i], &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	switch function {
	case "parse_pending_delete":
		return deletionsJSON(t, ParseDeletions(text(0)))
	case "print_pending_delete":
		var in map[string]struct{ Force json.Number }
		if err := json.Unmarshal(params[0], &in); err != nil {
			t.Fatal(err)
		}
		deletions := map[string]bool{}
		for key, d := range in {
			deletions[key] = d.Force == "1"
		}
		return encode(t, PrintDeletions(deletions))
	}
	c := configOf(t, params[0])
	switch function {
	case "add_to_pending_delete":
		c.Pending.AddDeletion(text(1), len(params) > 2 && plain(t, string(params[2])) == "1")
	case "remove_from_pending_delete":
		c.Pending.DropDeletion(text(1))
	case "cleanup_pending":
		c.CleanPending()
	default:
		t.Fatalf("unknown function %s", function)
	}
	out := map[string]any{"pending": c.Pending.values}
	for key, value := range c.Main.values {
		out[key] = value
	}
	return encode(t, out)
}

func configOf(t *testing.T, param json.RawMessage) *Config {
	t.Helper()
	c := New(layout.QEMU, 100)
	for key, value := range plain(t, string(param)).(map[string]any) {
		if pending, ok := value.(map[string]any); ok {
			for key, value := range pending {
				c.Pending.Set(key, value.(string))
			}
			continue
		}
		c.Main.Set(key, value.(string))
	}
	return c
}

func deletionsJSON(t *testing.T, deletions map[string]bool) string {
	t.Helper()
	out := map[string]any{}
	for key, force := range deletions {
		out[key] = map[string]int{"force": map[bool]int{true: 1}[force]}
	}
	return encode(t, out)
}

func encode(t *testing.T, value any) string {
	t.Helper()
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// plain decodes JSON and turns every number into its text, since numbers and
// numeric texts are equal in these data.
func plain(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return texts(value)
}

func texts(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			value[key] = texts(v)
		}
		return value
	case float64:
		return fmt.Sprint(value)
	}
	return value
}

func TestGoldenIDMaps(t *testing.T) {
	type wireMap struct {
		Kind      string
		Container uint64 `json:"container_first"`
		Host      uint64 `json:"host_first"`
		Count     uint64
	}
	type wireCase struct {
		Name         string
		Unprivileged bool
		LXC          [][2]string
		Maps         []wireMap
		UID          uint64 `json:"root_uid"`
		GID          uint64 `json:"root_gid"`
		Error        *string
	}
	for _, c := range golden.Cases[wireCase](t, "lxc-config", "idmap") {
		golden.Case(t, "lxc-config", "idmap/"+c.Name, func(t *testing.T) {
			s := NewSection()
			for _, line := range c.LXC {
				s.Raw = append(s.Raw, Raw{line[0], line[1]})
			}
			if c.Unprivileged {
				s.Set("unprivileged", "1")
			}
			maps, err := IDMaps(s)
			if err != nil {
				t.Fatal(err)
			}
			var want []IDMap
			for _, m := range c.Maps {
				want = append(want, IDMap(m))
			}
			if !reflect.DeepEqual(maps, want) {
				t.Errorf("maps %v, want %v", maps, want)
			}
			if u, g := HostID(maps, "u"), HostID(maps, "g"); u != c.UID || g != c.GID {
				t.Errorf("root is %d:%d, want %d:%d", u, g, c.UID, c.GID)
			}
			got := ""
			if err := CheckIDMaps(maps); err != nil {
				got = err.Error() + "\n"
			}
			if wanted := c.Error; got != "" && wanted == nil || wanted != nil && got != *wanted {
				t.Errorf("error %q, want %v", got, wanted)
			}
		})
	}
}
