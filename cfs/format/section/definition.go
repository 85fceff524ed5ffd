package section

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
)

// A Definition says which types of sections a file has and which keys they take.
type Definition struct {
	Base  schema.Keys      // keys that several types share
	Types map[string]*Type // by the word in the header

	// Isolated gives every type its own version of a key; otherwise a key is
	// defined once and any type that lists it may use it.
	Isolated bool

	Bare      string           // type of sections whose header is only an id
	ID        *schema.Property // what an id may be; nil for anything
	IDsByType bool             // sections of different types may have the same id
}

// A Type is one kind of section.
type Type struct {
	Properties schema.Keys         // keys that the type adds
	Options    map[string]Option   // keys that it takes
	Words      map[string][]string // words that the list in a key may hold in this type
	Isolate    bool                // as Definition.Isolated for this type alone
	Expose     map[string]bool     // own keys of an isolated type that others may use
}

// An Option says how a type takes a key.
type Option struct {
	Optional schema.Flag `json:"optional"`
	Fixed    schema.Flag `json:"fixed"` // may not change after creation
}

// Verify refuses a definition that contradicts itself.
func (d *Definition) Verify() error {
	owner := map[string]string{}
	for _, name := range d.TypeNames() {
		t := d.Types[name]
		for _, key := range slices.Sorted(maps.Keys(t.Properties)) {
			if d.isolates(t) {
				continue
			}
			if _, twice := owner[key]; twice || d.Base[key] != nil {
				return fmt.Errorf("duplicate property '%s'", key)
			}
			owner[key] = name
		}
	}
	for _, name := range d.TypeNames() {
		for _, key := range slices.Sorted(maps.Keys(d.Types[name].Options)) {
			if d.property(name, key) == nil {
				return d.undefined(name, key, owner[key] != "")
			}
		}
	}
	return nil
}

// undefined explains why a type cannot use a key.
func (d *Definition) undefined(name, key string, shared bool) error {
	if shared && d.isolates(d.Types[name]) {
		return fmt.Errorf("isolated plugin cannot use property '%s' from foreign plugin", key)
	}
	for _, other := range d.TypeNames() {
		if t := d.Types[other]; other != name && t.Properties[key] != nil && d.isolates(t) {
			return fmt.Errorf("cannot use property '%s' from isolated plugin '%s'", key, other)
		}
	}
	return fmt.Errorf("undefined property '%s'", key)
}

// TypeNames returns the types, sorted.
func (d *Definition) TypeNames() []string { return slices.Sorted(maps.Keys(d.Types)) }

func (d *Definition) isolates(t *Type) bool { return d.Isolated || t.Isolate }

// anyIsolated reports whether a key may mean different things in two types.
func (d *Definition) anyIsolated() bool {
	for _, t := range d.Types {
		if d.isolates(t) {
			return true
		}
	}
	return d.Isolated
}

// property returns what a key means in a type, nil if it is not known there.
func (d *Definition) property(kind, key string) *schema.Property {
	t := d.Types[kind]
	if t != nil {
		if p := t.Properties[key]; p != nil {
			return p
		}
	}
	if p := d.Base[key]; p != nil || t == nil || d.isolates(t) {
		return p
	}
	for _, name := range d.TypeNames() {
		other := d.Types[name]
		if p := other.Properties[key]; p != nil && (!d.isolates(other) || other.Expose[key]) {
			return p
		}
	}
	return nil
}

// options returns the keys a type takes. In an isolated type keys that it
// adds without listing them are among them.
func (d *Definition) options(kind string) map[string]Option {
	t := d.Types[kind]
	if !d.isolates(t) {
		return t.Options
	}
	all := maps.Clone(t.Options)
	if all == nil {
		all = map[string]Option{}
	}
	for key, p := range t.Properties {
		if _, listed := all[key]; !listed {
			all[key] = Option{Optional: p.Optional}
		}
	}
	return all
}

// Property returns what a key means in sections of a type.
func (d *Definition) Property(kind, key string) (*schema.Property, bool) {
	if d.Types[kind] == nil {
		return nil, false
	}
	_, takes := d.options(kind)[key]
	p := d.property(kind, key)
	return p, takes && p != nil
}

// value judges one value and returns it in canonical form. A truth value may
// have been written without a value.
func (d *Definition) value(kind, key, value string, given bool) (string, error) {
	p := d.property(kind, key)
	if p == nil {
		return "", &schema.Error{Message: "unknown property type", Reason: "unknown key"}
	}
	if _, takes := d.options(kind)[key]; !takes {
		return "", &schema.Error{Message: "unexpected property '" + key + "'", Reason: "sections of type '" + kind + "' do not have this key"}
	}
	switch {
	case !given && p.Type == "boolean":
		return "1", nil
	case !given:
		return "", &schema.Error{Message: "got undefined value", Reason: "no value given"}
	}
	if err := p.Check(value); err != nil {
		return "", err
	}
	if words := d.Types[kind].Words[key]; words != nil {
		for _, word := range schema.SplitList(value) {
			if !slices.Contains(words, word) {
				reason := fmt.Sprintf("'%s' is not for type '%s'; expected some of %s", word, kind, strings.Join(words, ", "))
				return "", &schema.Error{Message: reason, Reason: reason}
			}
		}
	}
	return canonical(p.Type, value), nil
}

// canonical writes numbers and truth values in the one way they are stored.
func canonical(kind, value string) string {
	switch kind {
	case "boolean":
		if truth, ok := schema.Bool(value); ok {
			return map[bool]string{true: "1", false: "0"}[truth]
		}
	case "integer":
		sign, digits := "", strings.TrimPrefix(value, "+")
		if rest, ok := strings.CutPrefix(digits, "-"); ok {
			sign, digits = "-", rest
		}
		if digits = strings.TrimLeft(digits, "0"); digits == "" {
			return "0"
		}
		return sign + digits
	}
	return value
}
