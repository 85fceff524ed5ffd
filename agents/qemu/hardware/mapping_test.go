package hardware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMappingsSayWhatANameIsHere(t *testing.T) {
	tree := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(tree, "mapping", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("usb.cfg", "stick\n\tmap node=n2,id=1111:2222\n\tmap node=n1,id=0951:1666,path=1-2.3\n\nkey\n\tmap node=n1,id=1050:0407\n\nfar\n\tmap node=n2,id=1:2\n")
	write("pci.cfg", "gpu\n\tmap node=n1,path=0000:01:00.4,id=10de:2231\n\tmap node=n2,path=0000:01:00.5\n\tmap node=n1,path=0000:01:00.6\n\tmdev 1\n")
	write("directory.cfg", "share\n\tmap node=n1,path="+tree+"\n\nlost\n\tmap node=n1,path=/no/such\n")
	m := Mappings{Tree: tree, Node: "n1"}

	if got, err := m.USB("stick"); got != "1-2.3" || err != nil {
		t.Errorf("stick: %q, %v", got, err)
	}
	if got, err := m.USB("key"); got != "1050:0407" || err != nil {
		t.Errorf("key: %q, %v", got, err)
	}
	if got, err := m.PCI("gpu"); err != nil || len(got) != 2 || got[1].Address != "0000:01:00.6" || !got[0].Mediated {
		t.Errorf("gpu: %v, %v", got, err)
	}
	if got, err := m.Directory("share"); got != tree || err != nil {
		t.Errorf("share: %q, %v", got, err)
	}
	for ask, want := range map[string]func() error{
		"stands for nothing on node 'n1'": func() error { _, err := m.USB("far"); return err },
		"is not in mapping/usb.cfg":       func() error { _, err := m.USB("none"); return err },
		"is not a directory of this node": func() error { _, err := m.Directory("lost"); return err },
	} {
		if err := want(); err == nil || !strings.Contains(err.Error(), ask) {
			t.Errorf("%v, want %q", err, ask)
		}
	}
}
