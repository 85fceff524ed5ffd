package section

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
	"etcpve/fixtures/golden"
)

// definitionJSON is how golden data writes a Definition.
type definitionJSON struct {
	Base struct {
		PropertyIsolation schema.Flag
		PropertyList      schema.Keys
	}
	Types map[string]struct {
		Properties schema.Keys
		Options    map[string]Option
		Plugindata struct {
			Isolate schema.Flag            `json:"isolate-properties"`
			Expose  map[string]schema.Flag `json:"expose-properties"`
		}
	}
}

func (j definitionJSON) definition() *Definition {
	d := &Definition{Base: j.Base.PropertyList, Isolated: bool(j.Base.PropertyIsolation), Types: map[string]*Type{}}
	for name, t := range j.Types {
		expose := map[string]bool{}
		for key, flag := range t.Plugindata.Expose {
			expose[key] = bool(flag)
		}
		d.Types[name] = &Type{Properties: t.Properties, Options: t.Options, Isolate: bool(t.Plugindata.Isolate), Expose: expose}
	}
	return d
}

// ids returns the sections in the shape of golden data, all scalars as text.
func ids(d *Definition, c *Config) (map[string]any, map[string]int) {
	all, order := map[string]any{}, map[string]int{}
	for _, s := range c.Sections {
		order[s.ID] = s.Order
		if s.Broken {
			all[s.ID] = nil
			continue
		}
		values := map[string]any{"type": s.Type}
		for key, list := range s.Values {
			p := d.property(s.Type, key)
			if p != nil && p.Type == "array" || len(list) > 1 {
				values[key] = list
			} else {
				values[key] = list[0]
			}
		}
		all[s.ID] = values
	}
	return all, order
}

func TestGoldenParse(t *testing.T) {
	type testCase struct {
		Name         string
		Definition   definitionJSON
		FileName     string `json:"file_name"`
		Text         string
		AllowUnknown bool `json:"allow_unknown"`
		Expected     struct {
			IDs    map[string]any
			Order  map[string]int
			Errors []Rejection
		}
		Warnings  []string
		Rewritten *string
		Digest    string
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "parse") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			d := c.Definition.definition()
			got := Parse(d, c.FileName, c.Text, c.AllowUnknown)
			all, order := ids(d, got)
			if fmt.Sprint(all) != fmt.Sprint(c.Expected.IDs) || !maps.Equal(order, c.Expected.Order) {
				t.Errorf("ids\n%v, order %v; want\n%v, %v", all, order, c.Expected.IDs, c.Expected.Order)
			}
			if !slices.Equal(got.Warnings, c.Warnings) {
				t.Errorf("warnings %q; want %q", got.Warnings, c.Warnings)
			}
			if c.Expected.Errors != nil && !slices.Equal(got.Rejected, c.Expected.Errors) {
				t.Errorf("errors %q; want %q", got.Rejected, c.Expected.Errors)
			}
			if c.Digest != "" && got.Digest != c.Digest {
				t.Errorf("digest %s; want %s", got.Digest, c.Digest)
			}
			if c.Rewritten == nil {
				return
			}
			written, err := Write(d, got, c.AllowUnknown)
			if err != nil || written != *c.Rewritten {
				t.Errorf("rewritten %q, %v; want %q", written, err, *c.Rewritten)
			}
			again, order := ids(d, Parse(d, c.FileName, written, c.AllowUnknown))
			if !reflect.DeepEqual(again, all) || !maps.Equal(order, c.Expected.Order) {
				t.Errorf("read again: %v; want %v", again, all)
			}
		})
	}
}

type schemaCheck struct {
	Mode, Call string
	SkipType   bool        `json:"skip_type"`
	Extra      schema.Keys `json:"extra_base_properties"`
	SingleType string      `json:"single_type"`
	MustFail   bool        `json:"must_fail"`
	Expected   json.RawMessage
}

func (c schemaCheck) run(t *testing.T, d Definition) {
	d.Isolated = d.Isolated || c.Mode == "isolated"
	got, err := d.Schema(Call{Update: c.Call == "updateSchema", SkipType: c.SkipType, SingleType: c.SingleType, Extra: c.Extra})
	if c.MustFail || err != nil {
		if c.MustFail != (err != nil) {
			t.Errorf("%s %s: error %v; must fail: %v", c.Mode, c.Call, err, c.MustFail)
		}
		return
	}
	var want Schema
	if err := json.Unmarshal(c.Expected, &want); err != nil {
		t.Fatal(err)
	}
	gotText, _ := json.Marshal(got)
	wantText, _ := json.Marshal(want)
	if string(gotText) != string(wantText) {
		t.Errorf("%s %s %s:\n%s; want\n%s", c.Mode, c.Call, c.SingleType, gotText, wantText)
	}
}

func TestGoldenSchema(t *testing.T) {
	type testCase struct {
		Name       string
		Definition definitionJSON
		Error      *string
		Checks     []schemaCheck
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "schema") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			d := c.Definition.definition()
			err := d.Verify()
			if c.Error != nil {
				if err == nil || !strings.HasPrefix(err.Error()+"\n", *c.Error) {
					t.Errorf("error %v; want %q", err, *c.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, check := range c.Checks {
				check.run(t, *d)
			}
		})
	}
}

func TestGoldenConfigID(t *testing.T) {
	type testCase struct {
		Name, ID string
		Valid    bool
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "configid") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			if err := schema.CheckFormat("pve-configid", c.ID); (err == nil) != c.Valid {
				t.Errorf("%q: %v; valid: %v", c.ID, err, c.Valid)
			}
		})
	}
}
