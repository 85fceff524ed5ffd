package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/cfs/format/schema"
)

// TestManualNamesEveryKey keeps the pages in step with the tables.
func TestManualNamesEveryKey(t *testing.T) {
	for page, table := range map[string]schema.Keys{"qm.conf.5": qemuTable, "pct.conf.5": lxcTable} {
		content, err := os.ReadFile(filepath.Join("..", "..", "..", "man", page))
		if err != nil {
			t.Fatal(err)
		}
		items := map[string]bool{}
		for line := range strings.SplitSeq(string(content), "\n") {
			if item, ok := strings.CutPrefix(line, ".It Cm "); ok {
				items[item] = true
			}
		}
		for key, p := range table {
			if !items[key] {
				t.Errorf("%s: %s is missing", page, key)
			}
			for inner, option := range p.Format.Keys {
				if !items[inner] && option.KeyAlias == "" {
					t.Errorf("%s: %s: option %s is missing", page, key, inner)
				}
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	b.SetBytes(int64(len(vm)))
	for b.Loop() {
		Check("qemu", 100, vm)
	}
}
