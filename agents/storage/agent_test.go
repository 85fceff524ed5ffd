package storage_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
)

// dead is a type of storage whose server does not answer.
type dead struct{ storagetest.Memory }

func (*dead) Activate(context.Context, *storage.Config) error { return storage.ErrOffline }

func newCatalog(t *testing.T, cfg string) (storage.Catalog, *storagetest.Memory) {
	t.Helper()
	c := storage.Catalog{Tree: t.TempDir(), Node: "n1", Locks: t.TempDir()}
	m := &storagetest.Memory{}
	c.Plugins = map[string]storage.Plugin{"lvmthin": m, "nfs": &dead{}}
	for _, dir := range []string{".status", "nodes/n1/lxc", "priv/lock"} {
		if err := os.MkdirAll(filepath.Join(c.Tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	define(t, c, cfg)
	return c, m
}

func define(t *testing.T, c storage.Catalog, cfg string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Tree, storage.File), []byte(cfg), 0o640); err != nil {
		t.Fatal(err)
	}
}

const thin = "dir: local\n\tpath /x\n\tdisable\n\nlvmthin: thin\n\tvgname v\n\tthinpool p\n\tcontent images,rootdir\n\n"

func TestAgentAppliesStorageCfg(t *testing.T) {
	c, m := newCatalog(t, thin+"nfs: nas\n\tpath /mnt/pve/nas\n\tserver s\n\texport /e\n")
	a := storage.NewAgent(storage.Options{Catalog: c, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	await := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			text, _ := os.ReadFile(filepath.Join(c.Tree, ".status", storage.File)) // "" while there is none
			if strings.Contains(string(text), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %q in\n%s", want, text)
			}
		}
	}
	await("storage nas: inactive\nstorage thin: active, total 1099511627776, used 0,")
	await("error: storage 'nas': storage is not online")
	define(t, c, "dir: local\n\tpath /x\n\tdisable\n\nlvmthin: thin\n\tvgname v\n\tthinpool p\n\tnodes n2\n")
	await("state: applied")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if m.Active {
		t.Error("a storage of another node is active")
	}
}

func TestPlanTouchesOnlyWhatDiffers(t *testing.T) {
	a := storage.NewAgent(storage.Options{})
	one := &storage.Config{ID: "one", Values: map[string]string{"path": "/1"}}
	other := &storage.Config{ID: "one", Values: map[string]string{"path": "/2"}}
	wanted := func(c ...*storage.Config) storage.Wanted {
		w := storage.Wanted{Configs: map[string]*storage.Config{}}
		for _, c := range c {
			w.Configs[c.ID] = c
		}
		return w
	}
	for _, c := range []struct {
		wanted storage.Wanted
		seen   map[string]storage.Seen
		want   string
	}{
		{wanted(one), nil, "[activate storage one]"},
		{wanted(one), map[string]storage.Seen{"one": {Config: one}}, "[]"},
		{wanted(one), map[string]storage.Seen{"one": {Config: one, Err: storage.ErrOffline}}, "[activate storage one]"},
		{wanted(other), map[string]storage.Seen{"one": {Config: one}}, "[deactivate storage one activate storage one]"},
		{wanted(), map[string]storage.Seen{"one": {Config: one}}, "[deactivate storage one]"},
	} {
		if got := fmt.Sprint(a.Plan(c.wanted, c.seen)); got != c.want {
			t.Errorf("%v %v: %s; want %s", c.wanted, c.seen, got, c.want)
		}
	}
}

func TestCatalog(t *testing.T) {
	c, _ := newCatalog(t, thin+"nfs: nas\n\tpath /mnt/pve/nas\n\tserver s\n\texport /e\n\tnodes n2\n\nfuture: odd\n\tx 1\n")
	if err := os.WriteFile(filepath.Join(c.Tree, "nodes/n1/lxc/200.conf"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, vmid := range []uint32{100, 200} {
		id, err := c.Alloc(t.Context(), "thin", storage.Request{VMID: vmid, Bytes: 1 << 20})
		if want := fmt.Sprintf("thin:vm-%d-disk-0", vmid); err != nil || id.String() != want {
			t.Fatalf("%s, %v", id, err)
		}
	}
	all, err := c.List(t.Context(), "thin", "", 0)
	if err != nil || len(all) != 2 || all[0].Content != storage.Images || all[1].Content != storage.Rootdir {
		t.Errorf("%+v, %v", all, err)
	}
	if path, err := c.Path("thin:vm-100-disk-0"); err != nil || path != "memory:thin/vm-100-disk-0" {
		t.Errorf("%s, %v", path, err)
	}
	if err := c.Free(t.Context(), "thin:vm-100-disk-0"); err != nil {
		t.Error(err)
	}
	for volume, want := range map[string]string{
		"none:vm-100-disk-0":  "storage 'none' does not exist",
		"local:100/a.raw":     "storage 'local' is disabled",
		"nas:100/a.raw":       "storage 'nas' is not available on node 'n1'",
		"odd:x":               "storage 'odd': type 'future' is not known here",
		"thin:vm-100-disk-0":  "no such volume 'vm-100-disk-0'",
		"thin:../../etc/x":    "unable to parse memory volume name '../../etc/x'",
		"not a volume at all": "unable to parse volume ID 'not a volume at all'",
	} {
		if err := c.Free(t.Context(), volume); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", volume, err, want)
		}
	}
}
