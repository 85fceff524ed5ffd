package guest

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A Config is what a configuration file says.
type Config struct {
	Kind      layout.Kind
	VMID      uint32
	Digest    string // SHA-1 of the text it was read from
	Main      *Section
	Pending   *Section            // never nil; empty when nothing waits
	Special   map[string]*Section // by name, without "special:"
	Snapshots map[string]*Section // by name
}

// A Section is a set of settings. The description is the setting
// "description", decoded.
type Section struct {
	values map[string]string
	Raw    []Raw // raw liblxc settings in the order written
}

// A Raw is one raw liblxc setting.
type Raw struct{ Key, Value string }

// New returns an empty configuration.
func New(kind layout.Kind, vmid uint32) *Config {
	return &Config{
		Kind: kind, VMID: vmid,
		Main: NewSection(), Pending: NewSection(),
		Special: map[string]*Section{}, Snapshots: map[string]*Section{},
	}
}

// NewSection returns an empty section.
func NewSection() *Section { return &Section{values: map[string]string{}} }

// Lookup returns a setting and whether it is there.
func (s *Section) Lookup(key string) (string, bool) {
	value, ok := s.values[key]
	return value, ok
}

// Get returns a setting, or "" if it is absent.
func (s *Section) Get(key string) string { return s.values[key] }

// Has reports whether a setting is there.
func (s *Section) Has(key string) bool { _, ok := s.values[key]; return ok }

// Set sets a setting.
func (s *Section) Set(key, value string) { s.values[key] = value }

// Delete removes settings.
func (s *Section) Delete(keys ...string) {
	for _, key := range keys {
		delete(s.values, key)
	}
}

// Keys returns the names of the settings, sorted by bytes, without
// "description".
func (s *Section) Keys() []string {
	keys := slices.Sorted(maps.Keys(s.values))
	return slices.DeleteFunc(keys, func(key string) bool { return key == "description" })
}

// Len returns the number of settings, raw ones and the description included.
func (s *Section) Len() int { return len(s.values) + len(s.Raw) }

// Clone returns a copy that shares nothing.
func (s *Section) Clone() *Section {
	return &Section{values: maps.Clone(s.values), Raw: slices.Clone(s.Raw)}
}

// Clone returns a copy that shares nothing.
func (c *Config) Clone() *Config {
	out := *c
	out.Main, out.Pending = c.Main.Clone(), c.Pending.Clone()
	out.Special, out.Snapshots = map[string]*Section{}, map[string]*Section{}
	for name, s := range c.Special {
		out.Special[name] = s.Clone()
	}
	for name, s := range c.Snapshots {
		out.Snapshots[name] = s.Clone()
	}
	return &out
}

// Digest returns the fingerprint of a file's text.
func Digest(content string) string {
	sum := sha1.Sum([]byte(content))
	return hex.EncodeToString(sum[:])
}

// Text returns the canonical text: the main part, pending changes, special
// sections and snapshots, each with its description first and its settings
// sorted.
func (c *Config) Text() string {
	c = c.normal()
	var b strings.Builder
	for _, name := range c.sections() {
		s := c.section(name)
		if header := name.header(c.Kind); header != "" {
			b.WriteString("\n" + header + "\n")
		}
		s.write(&b, name.kind == pendingSection)
	}
	return b.String()
}

// sections names the sections that have to be written, in order.
func (c *Config) sections() []sectionName {
	names := []sectionName{{mainSection, ""}}
	if c.Pending.Len() > 0 {
		names = append(names, sectionName{pendingSection, "pending"})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Special)) {
		if name != "cloudinit" || c.hasCloudInit() {
			names = append(names, sectionName{specialSection, name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Snapshots)) {
		names = append(names, sectionName{snapshotSection, name})
	}
	return names
}

// section returns a section, or nil if the configuration has none of this name.
func (c *Config) section(name sectionName) *Section {
	switch name.kind {
	case mainSection:
		return c.Main
	case pendingSection:
		return c.Pending
	case specialSection:
		return c.Special[name.name]
	case snapshotSection:
		return c.Snapshots[name.name]
	}
	return nil
}

// begin puts an empty section in place of the one of this name.
func (c *Config) begin(name sectionName) *Section {
	s := NewSection()
	switch name.kind {
	case pendingSection:
		c.Pending = s
	case specialSection:
		c.Special[name.name] = s
	case snapshotSection:
		c.Snapshots[name.name] = s
	}
	return s
}

func (s *Section) write(b *strings.Builder, pending bool) {
	for _, line := range s.descriptionLines(pending) {
		b.WriteString(line + "\n")
	}
	for _, key := range s.Keys() {
		b.WriteString(key + ": " + s.values[key] + "\n")
	}
	for _, raw := range s.Raw {
		b.WriteString(raw.Key + ": " + raw.Value + "\n")
	}
}

// descriptionLines returns the description as comment lines. An empty one is
// written only among pending changes, where it means removal.
func (s *Section) descriptionLines(pending bool) []string {
	description, ok := s.values["description"]
	if trimmed := strings.TrimRight(description, "\n"); trimmed != "" {
		lines := strings.Split(trimmed, "\n")
		for i, line := range lines {
			lines[i] = "#" + text.Encode(line)
		}
		return lines
	}
	if ok && pending {
		return []string{"#"}
	}
	return nil
}

// normal returns the configuration as it is written: without names of the
// past and without unused volumes that are in use again.
func (c *Config) normal() *Config {
	out := *c
	out.Main = c.Main.Clone()
	main := out.Main
	main.Delete("snapstate")
	if smp, ok := main.Lookup("smp"); ok && c.Kind == layout.QEMU {
		if !main.Has("sockets") {
			main.Set("sockets", smp)
			main.Delete("cores")
		}
		main.Delete("smp")
	}
	used := map[string]bool{}
	for _, s := range []*Section{main, c.Pending} {
		for _, v := range Volumes(c.Kind, s) {
			used[v.Volume] = true
		}
	}
	for _, key := range main.Keys() {
		if strings.HasPrefix(key, "unused") && used[main.Get(key)] {
			main.Delete(key)
		}
	}
	return &out
}

func (c *Config) hasCloudInit() bool {
	return slices.ContainsFunc(Volumes(c.Kind, c.Main), func(v Volume) bool { return v.IsCloudInit() })
}

// Values reads the property string that a setting holds, against the table of
// the guest's kind. An absent setting has no values.
func (s *Section) Values(kind layout.Kind, key string) (schema.Values, error) {
	value, ok := s.Lookup(key)
	p := Keys(kind)[key]
	if !ok || p == nil || p.Format.Keys == nil {
		return nil, nil
	}
	return p.Format.Keys.Parse(value)
}
