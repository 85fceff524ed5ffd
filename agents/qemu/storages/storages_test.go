package storages_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"etcpve/agents/qemu/storages"
	"etcpve/agents/storage"
)

// pool is a type of storage that QEMU reaches by itself.
type pool struct{ storage.Plugin }

func (pool) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "pool", Names: "vm"}.Parse(name)
}

func (pool) Blockdev(c *storage.Config, v storage.Volume, _ string) (map[string]any, error) {
	return map[string]any{"driver": "rbd", "pool": c.Value("pool"), "image": v.File}, nil
}

// lazy is a type of storage whose files come with their activation.
type lazy struct {
	storage.Plugin
	dir string
}

func (lazy) Parse(name string) (storage.Volume, error) { return storage.ParseFile(name) }

func (l lazy) Path(_ *storage.Config, v storage.Volume, _ string) (string, error) {
	return filepath.Join(l.dir, v.File), nil
}

func (lazy) Activate(context.Context, *storage.Config) error { return nil }

func (l lazy) ActivateVolume(_ context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	path, err := l.Path(c, v, snapshot)
	if err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, 512), 0o600)
}

func (lazy) DeactivateVolume(context.Context, *storage.Config, storage.Volume, string) error {
	return nil
}

func TestVolumesOfEveryType(t *testing.T) {
	tree := t.TempDir()
	text := "rbd: ceph\n\tpool tank\n\tcontent images\n\ncifs: win\n\tserver s\n\tshare x\n\tpath /x\n\tcontent images\n"
	if err := os.WriteFile(filepath.Join(tree, storage.File), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	s := storages.Resolver{Catalog: storage.Catalog{Tree: tree, Node: "n1", Plugins: map[string]storage.Plugin{"rbd": pool{}, "cifs": lazy{dir: tree}}}}
	v, err := s.Resolve(t.Context(), "ceph:vm-100-disk-0")
	want := map[string]any{"driver": "rbd", "pool": "tank", "image": "vm-100-disk-0"}
	if err != nil || !reflect.DeepEqual(v.Protocol, want) || v.Format != "raw" || v.Path != "" || v.SyncOnly {
		t.Errorf("%+v, %v", v, err)
	}
	v, err = s.Resolve(t.Context(), "win:100/vm-100-disk-0.qcow2")
	if err != nil || v.Path != filepath.Join(tree, "vm-100-disk-0.qcow2") || v.Format != "qcow2" || v.Size != 512 || v.Protocol != nil || !v.SyncOnly {
		t.Errorf("%+v, %v", v, err)
	}
	for id, want := range map[string]string{
		"win:iso/x.iso":       "does not support content-type 'iso'",
		"none:vm-100-disk-0":  "does not exist",
		"/nowhere/x.raw":      "no such file",
		"ceph:100/strange.md": "unable to parse",
	} {
		if v, err := s.Resolve(t.Context(), id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %s", id, v, err, want)
		}
	}
}
