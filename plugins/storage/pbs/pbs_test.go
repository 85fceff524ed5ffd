package pbs_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/fixtures/loopback"
	"etcpve/plugins/storage/pbs"
)

func config(settings ...string) *storage.Config {
	c := &storage.Config{ID: "bak", Type: "pbs", Values: map[string]string{"server": "192.0.2.7", "datastore": "store"}}
	for i := 0; i < len(settings); i += 2 {
		c.Values[settings[i]] = settings[i+1]
	}
	return c
}

// secrets is a tree with files below priv/storage.
func secrets(t *testing.T, files ...string) string {
	t.Helper()
	tree := t.TempDir()
	dir := filepath.Join(tree, "priv/storage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// recorder keeps the commands it is asked to run.
type recorder struct{ ran *[]host.Command }

func (r recorder) Run(_ context.Context, c host.Command) ([]byte, error) {
	*r.ran = append(*r.ran, c)
	return []byte("{}"), nil
}

func TestPasswordIsNoArgument(t *testing.T) {
	var ran []host.Command
	p := pbs.New(recorder{&ran}, secrets(t, "bak.pw", "topsecret\n"))
	if _, err := p.Status(t.Context(), config("fingerprint", "AA:BB")); err != nil || len(ran) != 1 {
		t.Fatal(err, ran)
	}
	if strings.Contains(ran[0].String(), "topsecret") || !slices.Contains(ran[0].Env, "PBS_PASSWORD=topsecret") || !slices.Contains(ran[0].Env, "PBS_FINGERPRINT=AA:BB") {
		t.Errorf("%s, %q", ran[0], ran[0].Env)
	}
}

func TestBackupsAreListedAndRemoved(t *testing.T) {
	c := config("username", "u@pbs!tok", "port", "8009", "namespace", "a/b")
	const at = " --repository 'u@pbs!tok@192.0.2.7:8009:store'"
	p := pbs.New(hosttest.New(t, `
$ proxmox-backup-client status`+at+`
> {"total":100,"used":40,"avail":60}
$ proxmox-backup-client snapshot list`+at+` --ns a/b
> [{"backup-type":"vm","backup-id":"100","backup-time":1795143600,"size":5,"comment":"before","protected":true},
>  {"backup-type":"ct","backup-id":"101","backup-time":1795143600,"size":null},
>  {"backup-type":"host","backup-id":"n1","backup-time":1795143600,"size":7},
>  {"backup-type":"vm","backup-id":"x y","backup-time":1}]
$ proxmox-backup-client snapshot list`+at+` --ns a/b
> [{"backup-type":"vm","backup-id":"100","backup-time":1795143600,"size":5},{"backup-type":"vm","backup-id":"101","backup-time":1795143600}]
$ proxmox-backup-client snapshot forget vm/100/2026-11-20T03:00:00Z`+at+` --ns a/b
`), secrets(t))
	if s, err := p.Status(t.Context(), c); err != nil || s != (storage.Status{Total: 100, Used: 40, Available: 60}) {
		t.Errorf("%+v, %v", s, err)
	}
	all, err := p.List(t.Context(), c, storage.Query{Content: storage.Backup})
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	if want := (storage.Info{Name: "backup/vm/100/2026-11-20T03:00:00Z", Content: "backup", Format: "pbs-vm", VMID: 100, Size: 5,
		Created: 1795143600, Subtype: "qemu", Notes: "before", Protected: true}); all[2] != want {
		t.Errorf("%+v; want %+v", all[2], want)
	}
	if all[0].Subtype != "lxc" || all[1].VMID != 0 || all[1].Format != "pbs-host" {
		t.Errorf("%+v", all)
	}
	one, err := p.List(t.Context(), c, storage.Query{Content: storage.Backup, VMID: 100})
	if err != nil || len(one) != 1 {
		t.Fatalf("%+v, %v", one, err)
	}
	v, err := p.Parse(one[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Free(t.Context(), c, v); err != nil {
		t.Error(err)
	}
	if path, err := p.Path(c, v, ""); err != nil || path != "pbs://u@pbs!tok@192.0.2.7:8009:store/vm/100/2026-11-20T03:00:00Z" {
		t.Errorf("%s, %v", path, err)
	}
}

func TestEncryptionIsNotForgotten(t *testing.T) {
	tree := secrets(t, "bak.enc", "key", "bak.master.pem", "pem")
	p := pbs.New(hosttest.New(t, ""), tree)
	dir := filepath.Join(tree, "priv/storage")
	c, err := p.Command(config("encryption-key", "aa", "master-pubkey", "1"), true, "backup", "drive.img:/x")
	want := "proxmox-backup-client backup drive.img:/x --repository root@pam@192.0.2.7:store --keyfile " + dir + "/bak.enc --master-pubkey-file " + dir + "/bak.master.pem"
	if err != nil || c.String() != want {
		t.Errorf("%s, %v; want %s", c, err, want)
	}
	if _, err := pbs.New(nil, secrets(t)).Command(config("encryption-key", "aa"), true, "backup"); err == nil {
		t.Error("a backup without the key")
	}
}

func TestNames(t *testing.T) {
	p := pbs.New(nil, "")
	for _, name := range []string{"", "backup/vm/100", "backup/vm/x/2026-11-20T03:00:00Z", "vm/100/2026-11-20T03:00:00Z", "backup/vm/../2026-11-20T03:00:00Z", "backup/vm/0100/2026-11-20T03:00:00Z"} {
		if v, err := p.Parse(name); err == nil {
			t.Errorf("%q is taken for %+v", name, v)
		}
	}
}

func TestSilentServerIsOffline(t *testing.T) {
	server := loopback.Address(1).String()
	l, err := net.Listen("tcp", net.JoinHostPort(server, "8007"))
	if err != nil {
		t.Fatal(err)
	}
	p, c := pbs.New(nil, ""), config("server", server)
	if err := p.Activate(t.Context(), c); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Activate(t.Context(), c); err == nil || !strings.Contains(err.Error(), storage.ErrOffline.Error()) {
		t.Errorf("%v", err)
	}
}
