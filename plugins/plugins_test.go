package plugins

import (
	"testing"

	"etcpve/agents/host"
	"etcpve/cfs/format/definitions"
)

// TestEveryTypeOfStorageHasAPlugin names the types that have none.
func TestEveryTypeOfStorageHasAPlugin(t *testing.T) {
	missing := map[string]string{"esxi": "disks come from there as files, by import-from"}
	all := Storage(host.System{}, t.TempDir())
	for kind := range definitions.Storage.Types {
		if (all[kind] == nil) != (missing[kind] != "") {
			t.Errorf("%s: plugin %v, said to be missing: %q", kind, all[kind], missing[kind])
		}
	}
	for kind := range all {
		if definitions.Storage.Types[kind] == nil {
			t.Errorf("%s cannot be written in storage.cfg", kind)
		}
	}
}
