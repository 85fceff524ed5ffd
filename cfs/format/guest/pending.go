package guest

import (
	"maps"
	"slices"
	"strings"

	"etcpve/cfs/format/schema"
)

// ParseDeletions reads the value of "delete" among pending changes: the keys
// to remove, each with whether its data is to be destroyed too ("!key").
func ParseDeletions(value string) map[string]bool {
	deletions := map[string]bool{}
	for _, word := range schema.SplitList(value) {
		if key, force := strings.CutPrefix(word, "!"); key != "" {
			deletions[key] = force
		}
	}
	return deletions
}

// PrintDeletions is the inverse of ParseDeletions.
func PrintDeletions(deletions map[string]bool) string {
	keys := slices.Sorted(maps.Keys(deletions))
	for i, key := range keys {
		if deletions[key] {
			keys[i] = "!" + key
		}
	}
	return strings.Join(keys, ",")
}

// Deletions returns the settings that wait for their removal.
func (s *Section) Deletions() map[string]bool { return ParseDeletions(s.Get("delete")) }

// AddDeletion lets a setting wait for its removal. A forced removal stays
// forced.
func (s *Section) AddDeletion(key string, force bool) {
	deletions := s.Deletions()
	deletions[key] = deletions[key] || force
	s.Set("delete", PrintDeletions(deletions))
}

// DropDeletion takes a removal back.
func (s *Section) DropDeletion(key string) {
	deletions := s.Deletions()
	delete(deletions, key)
	if len(deletions) == 0 {
		s.Delete("delete")
		return
	}
	s.Set("delete", PrintDeletions(deletions))
}

// CleanPending drops pending changes that would change nothing and reports
// whether there were any.
func (c *Config) CleanPending() bool {
	changed := false
	for _, key := range c.Pending.Keys() {
		was, set := c.Main.Lookup(key)
		if key != "delete" && set && was == c.Pending.Get(key) {
			c.Pending.Delete(key)
			changed = true
		}
	}
	for key := range c.Pending.Deletions() {
		if !c.Main.Has(key) {
			c.Pending.DropDeletion(key)
			changed = true
		}
	}
	return changed
}
