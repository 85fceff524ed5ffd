package rbd_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/plugins/storage/rbd"
)

func config(settings ...string) *storage.Config {
	c := &storage.Config{ID: "ceph", Type: "rbd", Values: map[string]string{"pool": "tank"}}
	for i := 0; i < len(settings); i += 2 {
		c.Values[settings[i]] = settings[i+1]
	}
	return c
}

func TestConforms(t *testing.T) {
	for name, c := range map[string]*storage.Config{
		"librbd": config(), "krbd": config("krbd", "1"), "namespace": config("namespace", "ns", "data-pool", "tank"),
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{pools: []string{"tank"}}
			storagetest.Run(t, storagetest.Subject{Plugin: rbd.New(m, t.TempDir()), Config: c, Format: "raw", Limit: true,
				Write: m.write, Read: m.read, How: "simulated commands, " + name})
		})
	}
}

// external is a tree with the key of an external cluster.
func external(t *testing.T) (tree string, c *storage.Config) {
	t.Helper()
	tree = t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "priv/ceph"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "priv/ceph/ceph.keyring"), []byte("[client.pve]\n\tkey = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return tree, config("monhost", "10.0.0.1 [fd00::1]:3300", "username", "pve", "namespace", "ns")
}

func TestExternalClusterCommands(t *testing.T) {
	tree, c := external(t)
	conf, key := tree+"/priv/ceph/ceph.conf", tree+"/priv/ceph/ceph.keyring"
	to := " -c " + conf + " -m '10.0.0.1,[fd00::1]:3300' -n client.pve --keyring " + key + " "
	script := hosttest.New(t, strings.ReplaceAll(`
$ rbd TO ls tank/ns --format json
> []
$ ceph TO df --format json
> {"pools":[{"name":"other","stats":{"stored":1,"max_avail":2}},{"name":"tank","stats":{"stored":30,"max_avail":70}}]}
$ rbd TO ls -l tank/ns --format json
> [{"image":"vm-100-disk-0","size":1048576},{"image":"vm-100-disk-0","snapshot":"one","size":1048576},{"image":"other","size":1}]
$ rbd TO create --image-format 2 --size 2 tank/ns/vm-100-disk-1
$ rbd TO rename tank/ns/vm-100-disk-0 tank/ns/base-100-disk-0
$ rbd TO snap create tank/ns/base-100-disk-0@__base__
$ rbd TO snap protect tank/ns/base-100-disk-0@__base__
`, " TO ", to))
	p := rbd.New(script, tree)
	if err := p.Activate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(conf); err != nil || string(text) != "[global]\n\tmon_host = 10.0.0.1,[fd00::1]:3300\n\tkeyring = "+key+"\n" {
		t.Errorf("%s, %v", text, err)
	}
	if s, err := p.Status(t.Context(), c); err != nil || s != (storage.Status{Total: 100, Used: 30, Available: 70}) {
		t.Errorf("%+v, %v", s, err)
	}
	if name, err := p.Alloc(t.Context(), c, storage.Request{VMID: 100, Bytes: 1<<20 + 1}); err != nil || name != "vm-100-disk-1" {
		t.Errorf("%s, %v", name, err)
	}
	v, err := p.Parse("vm-100-disk-0")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := p.CreateBase(t.Context(), c, v); err != nil || name != "base-100-disk-0" {
		t.Errorf("%s, %v", name, err)
	}
}

func TestHowQEMUOpensAnImage(t *testing.T) {
	tree, c := external(t)
	key := tree + "/priv/ceph/ceph.keyring"
	p := rbd.New(hosttest.New(t, ""), tree)
	v, err := p.Parse("base-9-disk-0/vm-100-disk-0")
	if err != nil {
		t.Fatal(err)
	}
	node, err := p.Blockdev(c, v, "one")
	want := map[string]any{"driver": "rbd", "pool": "tank", "namespace": "ns", "image": "vm-100-disk-0", "snapshot": "one", "user": "pve",
		"auth-client-required": []any{"cephx"}, "server": []any{
			map[string]any{"host": "10.0.0.1", "port": "6789"}, map[string]any{"host": "fd00::1", "port": "3300"}}}
	if err != nil || !reflect.DeepEqual(node, want) {
		t.Errorf("%v, %v; want %v", node, err, want)
	}
	b := storage.Blockdev{Format: "raw", Node: node}
	if got, want := b.ImageOpts(), "driver=raw,file.auth-client-required.0=cephx,file.driver=rbd,file.image=vm-100-disk-0,file.namespace=ns,"+
		"file.pool=tank,file.server.0.host=10.0.0.1,file.server.0.port=6789,file.server.1.host=fd00::1,file.server.1.port=3300,file.snapshot=one,file.user=pve"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if !b.QEMUSnapshots() || !b.QEMUResizes() {
		t.Error("librbd does both")
	}
	for want, c := range map[string]*storage.Config{
		`rbd:tank/ns/vm-100-disk-0:mon_host=10.0.0.1\;[fd00\:\:1]\:3300:auth_supported=cephx:id=pve:keyring=` + key: c,
		"rbd:tank/vm-100-disk-0:id=admin:keyring=" + key:                                                            config(),
		"/dev/rbd/tank/vm-100-disk-0":                                                                               config("krbd", "1"),
	} {
		if got, err := p.Path(c, v, ""); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	if node, err := p.Blockdev(config("krbd", "1"), v, ""); err != nil || node != nil {
		t.Errorf("krbd: %v, %v", node, err)
	}
}
