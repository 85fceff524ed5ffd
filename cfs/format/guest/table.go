package guest

import (
	"maps"
	"regexp"
	"strconv"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// Keys returns the settings that a kind of guest knows, numbered ones by each
// of their names. The table must not be changed.
func Keys(kind layout.Kind) schema.Keys {
	if kind == layout.QEMU {
		return qemuKeys
	}
	return lxcKeys
}

var (
	qemuKeys = expand(qemuTable)
	lxcKeys  = expand(lxcTable)
)

var numbered = regexp.MustCompile(`^(\w+)\[0-(\d+)\]$`)

// expand turns "net[0-31]" into net0 to net31.
func expand(table schema.Keys) schema.Keys {
	keys := schema.Keys{}
	for name, p := range table {
		m := numbered.FindStringSubmatch(name)
		if m == nil {
			keys[name] = p
			continue
		}
		last, _ := strconv.Atoi(m[2])
		for i := 0; i <= last; i++ {
			keys[m[1]+strconv.Itoa(i)] = p
		}
	}
	return keys
}

// Series cuts a numbered key into its name and number: "net10" is net, 10.
func Series(key string) (name string, index int, ok bool) {
	name = strings.TrimRight(key, "0123456789")
	index, err := strconv.Atoi(key[len(name):])
	return name, index, err == nil && name != ""
}

// with returns base with more keys.
func with(base schema.Keys, more schema.Keys) schema.Keys {
	keys := maps.Clone(base)
	maps.Copy(keys, more)
	return keys
}
