// Package schematest compares rules of ours with those that are published.
//
// It owns the shape in which keys are published, with numbered ones as one, and
// what of a rule has to agree: all that decides whether a value is accepted. It
// never judges a value.
package schematest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/schema"
)

// Keys are properties of which some stand for many: net[n] for net0, net1, …
type Keys schema.Keys

// UnmarshalJSON spells the numbered ones out.
func (n *Keys) UnmarshalJSON(text []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*n = Keys{}
	for name, text := range raw {
		p, series := &schema.Property{}, struct {
			Index []int
			List  []int `json:"index_list"`
		}{}
		if err := json.Unmarshal(text, p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := json.Unmarshal(text, &series); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(series.Index) == 2 {
			for i := series.Index[0]; i <= series.Index[1]; i++ {
				series.List = append(series.List, i)
			}
		}
		if series.List == nil {
			(*n)[name] = p
		}
		for _, i := range series.List {
			(*n)[strings.TrimSuffix(name, "[n]")+strconv.Itoa(i)] = p
		}
	}
	return nil
}

// Differ compares what two properties accept, and says at what place they do not
// agree, a line each.
func Differ(at string, own, want *schema.Property) (lines []string) {
	if a, b := accepts(own), accepts(want); a != b {
		lines = append(lines, fmt.Sprintf("%s accepts %s; want %s", at, a, b))
	}
	for _, key := range slices.Sorted(maps.Keys(want.Format.Keys)) {
		if inner := own.Format.Keys[key]; inner != nil {
			lines = append(lines, Differ(at+" "+key+"=", inner, want.Format.Keys[key])...)
		} else if own.Format.Keys != nil {
			lines = append(lines, at+" "+key+"= is missing")
		}
	}
	for key := range own.Format.Keys {
		if want.Format.Keys != nil && want.Format.Keys[key] == nil {
			lines = append(lines, at+" "+key+"= is unknown to Proxmox VE")
		}
	}
	return lines
}

// accepts is what a value must be, but for the keys of a property string.
func accepts(p *schema.Property) string {
	kind := p.Type
	if kind == "array" { // an option given several times, or a list
		kind = "string"
	}
	words := []string{kind}
	for _, limit := range []struct {
		name  string
		value any
		set   bool
	}{
		{"from", p.Minimum, p.Minimum != nil}, {"to", p.Maximum, p.Maximum != nil},
		{"longer than", p.MinLength, p.MinLength != nil && *p.MinLength > 0}, {"not longer than", p.MaxLength, p.MaxLength != nil},
	} {
		if limit.set {
			words = append(words, limit.name, number(reflect.ValueOf(limit.value).Elem().Interface()))
		}
	}
	if p.Enum != nil {
		words = append(words, fmt.Sprintf("%q", slices.Sorted(slices.Values(p.Enum))))
	}
	if p.Pattern != "" {
		words = append(words, "pattern")
	}
	if p.Requires != "" {
		words = append(words, "with", p.Requires)
	}
	if p.Alias != "" {
		words = append(words, "as", p.Alias, p.KeyAlias)
	}
	switch {
	case p.Format.Keys != nil:
		words = append(words, "properties")
	case p.Format.Name != "":
		words = append(words, "format", p.Format.Name)
	}
	return strings.Join(words, " ")
}

// number writes large numbers in full.
func number(n any) string {
	if f, ok := n.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(n)
}
