package storage

import (
	"strconv"

	"etcpve/cfs/format/property"
)

// A Can reports whether a user has a privilege at a path of the access tree,
// such as /storage/local.
type Can func(path, privilege string) bool

// A Bandwidth is a question: how fast may an operation be?
type Bandwidth struct {
	Operation  string   // clone, migration, move, restore
	Storages   []string // involved; empty names are skipped
	Override   *float64 // asked for by the user, in KiB/s; 0: unlimited
	Can        Can      // what that user may do
	Datacenter string   // bwlimit of datacenter.cfg
	Of         func(storage string) string
}

// Limit returns the limit in KiB/s, nil if there is none. Who could change a
// limit may override it.
func (b Bandwidth) Limit() *float64 {
	limit, asked := b.Override, b.Override != nil
	may := func(path, privilege string) bool { return asked && b.Can(path, privilege) }

	// lower takes a setting into account and reports whether it says anything.
	lower := func(setting string) bool {
		value := operationLimit(setting, b.Operation)
		if value != nil && (limit == nil || *limit == 0 || *value < *limit) {
			limit = value
		}
		return value != nil
	}

	seen, open := map[string]bool{}, false
	for _, storage := range b.Storages {
		if storage == "" || seen[storage] {
			continue
		}
		if len(seen) == 0 && may("/storage", "Datastore.Allocate") {
			return limit
		}
		seen[storage] = true
		if !may("/storage/"+storage, "Datastore.Allocate") && !lower(b.Of(storage)) {
			open = true
		}
	}
	if (open || len(seen) == 0) && !may("/", "Sys.Modify") {
		lower(b.Datacenter)
	}
	return limit
}

// operationLimit reads a bwlimit setting.
func operationLimit(setting, operation string) *float64 {
	parts, err := property.Split(setting)
	if err != nil {
		return nil // a save with such a value is refused
	}
	for _, key := range []string{operation, "default"} {
		if text, ok := parts.Get(key); ok {
			if value, err := strconv.ParseFloat(text, 64); err == nil {
				return &value
			}
		}
	}
	return nil
}
