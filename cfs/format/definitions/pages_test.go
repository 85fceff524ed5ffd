package definitions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// page returns a man page of the project.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "man", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPagesNameEveryKey(t *testing.T) {
	storage := page(t, "storage.cfg.5")
	for key := range Storage.Base {
		if !strings.Contains(storage, "\n.It Ic "+key+" ") {
			t.Errorf("storage.cfg(5) lacks the key %s", key)
		}
	}
	datacenter := page(t, "datacenter.cfg.5")
	for key := range Datacenter {
		if !strings.Contains(datacenter, "\n.It Ic "+key+" : ") {
			t.Errorf("datacenter.cfg(5) lacks the key %s", key)
		}
	}
	for key := range Node {
		if !strings.Contains(datacenter, "\n.It Ic "+strings.TrimRight(key, "012345")) {
			t.Errorf("datacenter.cfg(5) lacks the key %s", key)
		}
	}
}

func TestPagesNameEveryFileAndType(t *testing.T) {
	text := page(t, "etcpve-section.5")
	for path, d := range sectioned {
		if path != "priv/notifications.cfg" && !strings.Contains(text, "\n.Ss "+path+"\n") {
			t.Errorf("etcpve-section(5) lacks the file %s", path)
		}
		for kind, typ := range d.Types {
			if !strings.Contains(text, "\n.It Ic "+kind+"\n") {
				t.Errorf("etcpve-section(5) lacks the type %s of %s", kind, path)
			}
			for key := range typ.Options {
				if !strings.Contains(text, key) {
					t.Errorf("etcpve-section(5) lacks the key %s of %s", key, path)
				}
			}
		}
	}
}
