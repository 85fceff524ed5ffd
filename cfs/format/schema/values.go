package schema

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/property"
)

// Values are the settings of a property string by key. Truth values are "0"
// and "1".
type Values map[string]string

// Parse reads a property string against its keys. The error is an *Error.
func (k Keys) Parse(value string) (Values, error) {
	values, err := k.parse("", value)
	if err != nil {
		return nil, err
	}
	return values, nil
}

func (k Keys) parse(path, value string) (Values, *Error) {
	values, columns, err := k.read(value)
	if err != nil {
		return nil, err
	}
	if err := k.checkAll(path, values, columns); err != nil {
		return nil, err
	}
	return values, nil
}

// read resolves aliases and the default key without judging values.
func (k Keys) read(value string) (Values, map[string]int, *Error) {
	parts, err := property.Split(value)
	if err != nil {
		refusal := refuse("%s\n", err)
		var syntax *property.SyntaxError
		if errors.As(err, &syntax) {
			refusal.Column = syntax.Column
		}
		refusal.Reason = err.Error()
		return nil, nil, refusal
	}
	values, columns := Values{}, map[string]int{}
	for _, part := range parts {
		if err := k.take(part, values); err != nil {
			err.Column = part.Column
			return nil, nil, err
		}
		columns[k.target(part.Key)] = part.Column
	}
	return values, columns, nil
}

// target returns the key that a written key sets.
func (k Keys) target(key string) string {
	if key == "" {
		return k.defaultKey()
	}
	if p := k[key]; p != nil && p.Alias != "" {
		return p.Alias
	}
	return key
}

func (k Keys) take(part property.Part, values Values) *Error {
	key := k.target(part.Key)
	if key == "" {
		return listError("", "value without key, but schema does not define a default key")
	}
	if _, twice := values[key]; twice {
		return listError(key, "duplicate key in comma-separated list property: "+key)
	}
	p := k[key]
	if p == nil {
		return listError(key, "invalid key in comma-separated list property: "+key)
	}
	if written := k[part.Key]; written != nil && written.KeyAlias != "" {
		if _, twice := values[written.KeyAlias]; twice {
			return listError(key, "key alias '"+written.KeyAlias+"' is already defined")
		}
		values[written.KeyAlias] = part.Key
	}
	values[key] = part.Value
	if p.Type == "boolean" {
		if truth, ok := Bool(part.Value); ok {
			values[key] = map[bool]string{true: "1", false: "0"}[truth]
		}
	}
	return nil
}

func listError(key, reason string) *Error {
	return &Error{Message: reason + "\n", Reason: reason, Key: key}
}

// checkAll judges every value and what is missing; the keys are named below
// path in the order of their names.
func (k Keys) checkAll(path string, values Values, columns map[string]int) *Error {
	found := k.violations(path, values)
	if len(found) == 0 {
		return nil
	}
	message := "format error\n"
	for _, e := range found {
		message += below(path, e.Key) + ": " + e.Message + "\n"
	}
	first := found[0]
	return &Error{Message: message, Reason: first.Reason, Key: first.Key, Column: columns[first.Key]}
}

func (k Keys) violations(path string, values Values) []*Error {
	var found []*Error
	add := func(key string, err *Error) {
		if err != nil {
			found = append(found, &Error{Message: err.Message, Reason: err.Reason, Key: key})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		p := k[key]
		if p == nil {
			add(key, refuse("property is not defined in schema and the schema does not allow additional properties"))
			continue
		}
		add(key, p.check(below(path, key), values[key]))
		if _, ok := values[p.Requires]; p.Requires != "" && !ok {
			add(p.Requires, refuse("missing property - '%s' requires this property", below(path, key)))
		}
	}
	for _, key := range k.missing(values) {
		add(key, refuse("property is missing and it is not optional"))
	}
	return found
}

// missing returns the required keys that have no value, sorted.
func (k Keys) missing(values Values) []string {
	var missing []string
	for key, p := range k {
		if _, set := values[key]; !set && !bool(p.Optional) && p.Alias == "" {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	return missing
}

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (k Keys) defaultKey() string {
	for key, p := range k {
		if p.DefaultKey {
			return key
		}
	}
	return ""
}

// Print writes values in canonical order: the default key's value first and
// bare, then required keys, then optional ones, each group by name. Sizes are
// shortened to the largest unit that keeps them exact. Keys in skip are left
// out.
func (k Keys) Print(values Values, skip ...string) string {
	var out property.String
	done := map[string]bool{}
	for _, key := range skip {
		done[key] = true
	}
	add := func(key string, bare bool) {
		value, set := values[key]
		if !set || done[key] {
			return
		}
		done[key] = true
		if target := k.combined(key, value); target != "" && values[target] != "" && !done[target] {
			done[target] = true
			out = append(out, property.Part{Key: value, Value: values[target]})
			return
		}
		part := property.Part{Key: key, Value: k.canonical(key, value)}
		if bare {
			part.Key = ""
		}
		out = append(out, part)
	}
	if key := k.defaultKey(); key != "" {
		add(key, true)
	}
	keys := slices.Sorted(maps.Keys(values))
	for _, key := range keys {
		if p := k[key]; p != nil && !bool(p.Optional) {
			add(key, false)
		}
	}
	for _, key := range keys {
		add(key, false)
	}
	return out.String()
}

// combined returns the key whose value is written together with key's value,
// as in "virtio=MAC" for model=virtio and macaddr=MAC.
func (k Keys) combined(key, value string) string {
	if p := k[value]; p != nil && p.KeyAlias == key {
		return p.Alias
	}
	return ""
}

func (k Keys) canonical(key, value string) string {
	if p := k[key]; p != nil && p.Format.Name == "disk-size" {
		if size, ok := ParseSize(value); ok {
			return FormatSize(size)
		}
	}
	return strings.TrimSpace(value)
}
