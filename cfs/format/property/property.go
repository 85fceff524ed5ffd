// Package property reads and writes property strings: the comma separated
// "value,key=value,…" lists that many settings hold.
//
// It owns their grammar and keeps the order in which parts were written. It
// never knows which keys exist or what they mean; package schema does.
package property

import (
	"strings"
)

// A Part is one element between commas.
type Part struct {
	Key    string // empty for a value without a key
	Value  string
	Column int // of the part, from 1, counted in bytes
}

// A String is a property string as it was written, part by part.
type String []Part

// A SyntaxError is a part that is neither "value" nor "key=value".
type SyntaxError struct {
	Column int
}

// Error returns the wording users know.
func (e *SyntaxError) Error() string { return "missing key in comma-separated list property" }

// Split cuts a property string into its parts. Blank parts are dropped.
func Split(s string) (String, error) {
	var parts String
	for column := 1; ; {
		part, rest, more := strings.Cut(s, ",")
		if strings.TrimSpace(part) != "" {
			key, value, keyed := strings.Cut(part, "=")
			switch {
			case !keyed:
				parts = append(parts, Part{Value: part, Column: column})
			case key == "" || value == "":
				return nil, &SyntaxError{Column: column}
			default:
				parts = append(parts, Part{Key: key, Value: value, Column: column})
			}
		}
		if !more {
			return parts, nil
		}
		column += len(part) + 1
		s = rest
	}
}

// String returns the parts joined again.
func (s String) String() string {
	var b strings.Builder
	for i, p := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		if p.Key != "" {
			b.WriteString(p.Key)
			b.WriteByte('=')
		}
		b.WriteString(p.Value)
	}
	return b.String()
}

// Get returns the value of a key; the key "" stands for the first value
// without a key.
func (s String) Get(key string) (string, bool) {
	for _, p := range s {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// With returns the string with one key set, in its old place or at the end.
func (s String) With(key, value string) String {
	out := append(String(nil), s...)
	for i, p := range out {
		if p.Key == key {
			out[i].Value = value
			return out
		}
	}
	return append(out, Part{Key: key, Value: value})
}

// Without returns the string without a key.
func (s String) Without(key string) String {
	var out String
	for _, p := range s {
		if p.Key != key {
			out = append(out, p)
		}
	}
	return out
}
