// Package schema says what the value of a setting may be: its type, its
// limits, its named format, or the keys of the property string it holds.
//
// It owns those rules, the wording of a refusal, and the reading and canonical
// writing of property strings against them. It never reads a file and knows
// no setting by name; the formats' own packages hold the tables.
package schema

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// A Property describes one setting.
type Property struct {
	Type        string   `json:"type,omitempty"` // string, integer, number, boolean, array, object; empty is not checked
	Description string   `json:"description,omitempty"`
	TypeText    string   `json:"typetext,omitempty"`
	Format      Format   `json:"format,omitzero"`
	Enum        []string `json:"enum,omitempty"`
	Minimum     *float64 `json:"minimum,omitempty"`
	Maximum     *float64 `json:"maximum,omitempty"`
	MinLength   *int     `json:"minLength,omitempty"`
	MaxLength   *int     `json:"maxLength,omitempty"`
	Pattern     string   `json:"pattern,omitempty"` // Perl pattern, anchored at both ends when checked
	Default     any      `json:"default,omitempty"`
	Optional    Flag     `json:"optional,omitempty"`
	Requires    string   `json:"requires,omitempty"` // another key that must be set too
	Alias       string   `json:"alias,omitempty"`    // this key is another way to write that one
	KeyAlias    string   `json:"keyAlias,omitempty"` // the key used is itself the value of that one
	DefaultKey  Flag     `json:"default_key,omitempty"`
	// Items describes the elements of an array, Properties the keys of an object.
	Items      *Property `json:"items,omitempty"`
	Properties Keys      `json:"properties,omitempty"`

	compiled *regexp.Regexp // of Pattern
}

// UnmarshalJSON reads a property in the shape in which schemas are published.
func (p *Property) UnmarshalJSON(text []byte) error {
	type plain Property
	if err := json.Unmarshal(text, (*plain)(p)); err != nil {
		return err
	}
	if p.Pattern != "" {
		p.compiled = compile(p.Pattern)
	}
	return nil
}

// Keys are the settings of a file, a section, an object or a property string.
type Keys map[string]*Property

// A Flag is a truth value, written 0, 1, false or true in JSON.
type Flag bool

// UnmarshalJSON accepts numbers, truth values and their texts.
func (f *Flag) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "1", "true", `"1"`:
		*f = true
	case "0", "false", `"0"`, "null", `""`:
		*f = false
	default:
		return fmt.Errorf("schema: %s is not a truth value", text)
	}
	return nil
}

// MarshalJSON writes 0 or 1.
func (f Flag) MarshalJSON() ([]byte, error) {
	if f {
		return []byte("1"), nil
	}
	return []byte("0"), nil
}

// A Format is either the name of a format or the keys of a property string.
type Format struct {
	Name string
	Keys Keys
}

// IsZero reports whether no format is asked for.
func (f Format) IsZero() bool { return f.Name == "" && f.Keys == nil }

// UnmarshalJSON accepts a name or an object of properties.
func (f *Format) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &f.Name)
	}
	return json.Unmarshal(text, &f.Keys)
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (f Format) MarshalJSON() ([]byte, error) {
	if f.Keys != nil {
		return json.Marshal(f.Keys)
	}
	return json.Marshal(f.Name)
}

// An Error is the refusal of one value.
type Error struct {
	Message string // complete, in the wording users know; may end with line feeds
	Reason  string // the innermost cause, one line
	Key     string // the key inside a property string, empty for the whole value
	Column  int    // of that key inside the value, from 1; 0 for the whole value
}

func (e *Error) Error() string { return e.Message }

func refuse(format string, args ...any) *Error {
	text := fmt.Sprintf(format, args...)
	return &Error{Message: text, Reason: text}
}
