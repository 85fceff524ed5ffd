package section

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/text"
)

// A Config is what a file means: unknown sections and bad values are left
// out, and each omission is a warning in the wording users know.
type Config struct {
	Sections []Parsed // by Order
	Warnings []string
	Rejected []Rejection
	Digest   string // SHA-1 of the text
}

// A Parsed is one section of a Config.
type Parsed struct {
	Type, ID string
	Order    int // position in the file, from 1
	Values   map[string][]string
	Broken   bool // a required key is missing: the section has no value
}

// A Rejection is a value that was left out.
type Rejection struct {
	Context string `json:"context"` // "file F line N"
	Section string `json:"section"`
	Key     string `json:"key"`
	Err     string `json:"err"`
}

// Parse reads a file as far as it can be understood. Sections of unknown type
// are left out unless allowUnknown is set.
func Parse(d *Definition, file, content string, allowUnknown bool) *Config {
	sum := sha1.Sum([]byte(content))
	p := &parser{d: d, file: file, allowUnknown: allowUnknown, c: &Config{Digest: hex.EncodeToString(sum[:])}}
	for _, l := range text.Lines(content) {
		p.number = l.Number
		switch {
		case commentForm.MatchString(l.Text):
		case p.open && l.Text == "":
			p.finish()
		case p.open:
			p.property(l)
		case l.Text != "":
			p.header(l.Text)
		}
	}
	p.finish()
	return p.c
}

type parser struct {
	d            *Definition
	file         string
	allowUnknown bool
	c            *Config

	number  int
	order   int
	open    bool // inside a section
	skip    bool // of a type that is left out
	unknown bool // of a type that is kept as it is
	current Parsed
}

func (p *parser) context() string { return fmt.Sprintf("file %s line %d", p.file, p.number) }

func (p *parser) warn(format string, args ...any) {
	p.c.Warnings = append(p.c.Warnings, p.context()+fmt.Sprintf(format, args...)+"\n")
}

func (p *parser) header(line string) {
	kind, id, ok := header(line, p.d.Bare)
	if !ok {
		p.warn(" - ignore config line: %s", line)
		return
	}
	p.open, p.skip, p.unknown = true, false, false
	p.current = Parsed{Type: kind, ID: id, Values: map[string][]string{}}
	if p.d.Types[kind] != nil {
		return
	}
	if p.unknown = p.allowUnknown; !p.unknown {
		p.skip = true
		p.warn(" (skip section '%s'): unsupported type '%s'", id, kind)
	}
}

func (p *parser) property(l text.Line) {
	if p.skip {
		return
	}
	e, ok := entry(l)
	if !ok {
		p.warn(" (section '%s') - ignore config line: %s", p.current.ID, l.Text)
		return
	}
	if p.unknown {
		p.current.Values[e.Key] = append(p.current.Values[e.Key], e.Value)
		return
	}
	if err := p.take(e); err != nil {
		p.warn(" (section '%s') - unable to parse value of '%s': %s", p.current.ID, e.Key, err)
		p.c.Rejected = append(p.c.Rejected, Rejection{p.context(), p.current.ID, e.Key, err.Error() + "\n"})
	}
}

func (p *parser) take(e Entry) error {
	kind := p.current.Type
	if known := p.d.property(kind, e.Key); known != nil && known.Type != "array" && p.current.Values[e.Key] != nil {
		return fmt.Errorf("duplicate attribute")
	}
	value, err := p.d.value(kind, e.Key, e.Value, e.Column > 0)
	if err != nil {
		return err
	}
	p.current.Values[e.Key] = append(p.current.Values[e.Key], value)
	return nil
}

// finish closes a section. A later section of the same id replaces it.
func (p *parser) finish() {
	if !p.open {
		return
	}
	p.open = false
	if p.skip {
		return
	}
	if !p.unknown {
		if key := p.d.missing(p.current.Type, p.current.Values); key != "" {
			p.warn(" (skip section '%s'): missing value for required option '%s'", p.current.ID, key)
			p.current.Broken = true
		}
	}
	p.order++
	p.current.Order = p.order
	p.c.Sections = slices.DeleteFunc(p.c.Sections, func(s Parsed) bool { return s.ID == p.current.ID })
	p.c.Sections = append(p.c.Sections, p.current)
}

// missing returns the first required key without a value, else "".
func (d *Definition) missing(kind string, values map[string][]string) string {
	options := d.options(kind)
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if !bool(options[key].Optional) && values[key] == nil {
			return key
		}
	}
	return ""
}

// Write returns the canonical text of a configuration.
func Write(d *Definition, c *Config, allowUnknown bool) (string, error) {
	var b strings.Builder
	for _, s := range c.Sections {
		if d.Types[s.Type] == nil && !allowUnknown {
			return "", fmt.Errorf("unknown section type '%s'", s.Type)
		}
		if d.Types[s.Type] != nil {
			if key := d.missing(s.Type, s.Values); key != "" {
				return "", fmt.Errorf("section '%s' - missing value for required option '%s'", s.ID, key)
			}
		}
		if d.Bare != "" {
			b.WriteString(s.ID + "\n")
		} else {
			b.WriteString(s.Type + ": " + s.ID + "\n")
		}
		for _, key := range d.order(s) {
			for _, v := range s.Values[key] {
				if key == "disable" && v == "1" {
					b.WriteString("\tdisable\n")
				} else {
					b.WriteString("\t" + key + " " + v + "\n")
				}
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// order returns the keys of a section as they are written: comment, disable,
// the required ones, the others.
func (d *Definition) order(s Parsed) []string {
	var keys []string
	if v := s.Values["comment"]; len(v) > 0 && v[0] != "" && v[0] != "0" {
		keys = append(keys, "comment")
	}
	sorted := slices.Sorted(maps.Keys(s.Values))
	if d.Types[s.Type] == nil {
		return append(keys, without(sorted, "comment")...)
	}
	if v := s.Values["disable"]; len(v) > 0 && v[0] != "0" {
		keys = append(keys, "disable")
	}
	options := d.options(s.Type)
	var optional []string
	for _, key := range without(sorted, "comment", "disable") {
		switch o, takes := options[key]; {
		case !takes:
		case bool(o.Optional):
			optional = append(optional, key)
		default:
			keys = append(keys, key)
		}
	}
	return append(keys, optional...)
}

func without(keys []string, leave ...string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(leave, k) })
}
