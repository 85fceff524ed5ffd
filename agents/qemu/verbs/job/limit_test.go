package job

import (
	"os"
	"path/filepath"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/qemu/place"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

func TestLimitsComeFromWhoeverKnowsBest(t *testing.T) {
	tree := t.TempDir()
	for name, text := range map[string]string{
		"datacenter.cfg": "keyboard: de\nbwlimit: clone=300,default=900\n",
		"storage.cfg":    "dir: slow\n\tpath /a\n\tbwlimit move=100,default=200\n\ndir: plain\n\tpath /b\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := place.Place{Tree: tree, Catalog: storage.Catalog{Tree: tree, Plugins: map[string]storage.Plugin{"dir": dir.Plugin{Run: host.System{}}}}}
	for _, c := range []struct {
		asked, operation string
		volumes          []string
		want             int64
	}{
		{"", "move", []string{"slow:100/a.raw", "plain:100/a.raw"}, 100},
		{"", "clone", []string{"slow:100/a.raw", "slow:101/a.raw"}, 200},
		{"", "clone", []string{"plain:100/a.raw"}, 300},
		{"", "restore", []string{""}, 900},
		{"5000", "move", []string{"slow:100/a.raw"}, 5000},
		{"0", "move", []string{"slow:100/a.raw"}, 0},
		{"1.5", "restore", []string{"plain:"}, 1},
	} {
		j := Job{Place: p, Params: map[string]string{"bwlimit": c.asked}}
		if got := j.Limit(t.Context(), c.operation, c.volumes...); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
