package guest

import (
	"cmp"
	"maps"
	"slices"

	"etcpve/cfs/format/guest"
)

// A Change is one setting that waits for a restart.
type Change struct {
	Key      string
	Old, New string // New is empty for a removal
	Remove   bool
	Force    bool // a removal that destroys the data too
}

// String says what will change.
func (c Change) String() string {
	switch {
	case c.Remove && c.Force:
		return "remove " + c.Key + " and its data"
	case c.Remove:
		return "remove " + c.Key
	}
	return "set " + c.Key + ": " + c.New
}

// Changes returns what waits, sorted by key.
func Changes(c *guest.Config) []Change {
	var changes []Change
	for _, key := range slices.Concat(c.Pending.Keys(), []string{"description"}) {
		if value, ok := c.Pending.Lookup(key); ok && key != "delete" {
			changes = append(changes, Change{Key: key, Old: c.Main.Get(key), New: value})
		}
	}
	deletions := c.Pending.Deletions()
	for _, key := range slices.Sorted(maps.Keys(deletions)) {
		changes = append(changes, Change{Key: key, Old: c.Main.Get(key), Remove: true, Force: deletions[key]})
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Key, b.Key) })
	return changes
}

// Want lets a setting wait for its new value; a removal of it that waits is
// taken back.
func Want(c *guest.Config, key, value string) {
	c.Pending.DropDeletion(key)
	c.Pending.Set(key, value)
	c.CleanPending()
}

// Unwant lets a setting wait for its removal.
func Unwant(c *guest.Config, key string, force bool) {
	c.Pending.Delete(key)
	c.Pending.AddDeletion(key, force)
	c.CleanPending()
}

// Settle makes one change that waits part of the running settings.
func Settle(c *guest.Config, change Change) {
	if change.Remove {
		c.Main.Delete(change.Key)
		c.Pending.DropDeletion(change.Key)
		return
	}
	c.Main.Set(change.Key, change.New)
	c.Pending.Delete(change.Key)
}
