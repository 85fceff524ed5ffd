package pvesm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/storage"
)

func TestSecretsGoToTheirFiles(t *testing.T) {
	p := newPlace(t, "")
	for _, kind := range []string{"rbd", "pbs", "esxi", "cephfs"} {
		p.Plugins[kind] = p.Plugins["nfs"]
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ring := file("ring", "[client.admin]\n\tkey = AQ==\n")
	key, pem := file("key", `{"data":"x","fingerprint":"aa:bb"}`), file("pem", "-----BEGIN PUBLIC KEY-----\n")
	p.play(t, [][2]string{
		{"add rbd ceph --pool x --monhost 192.0.2.1 --keyring " + ring, "0"},
		{"add cephfs fs --keyring " + ring, "0"},
		{"add pbs bak --server s --datastore d --password geheim1 --encryption-key " + key + " --master-pubkey " + pem, "0"},
		{"add esxi old --server s --username u --password geheim2", "0"},
		{"add pbs bad --server s --datastore d --encryption-key " + ring, "encryption-key: the file is no key of proxmox-backup-client\n255"},
		{"add rbd bad --keyring " + key + ".none", "open " + key + ".none: no such file or directory\n255"},
	})
	text, err := os.ReadFile(filepath.Join(p.Tree, storage.File))
	if err != nil || strings.Contains(string(text), "geheim") || strings.Contains(string(text), "keyring") || strings.Contains(string(text), "bad") ||
		!strings.Contains(string(text), "\tencryption-key aa:bb\n\tmaster-pubkey 1\n") {
		t.Errorf("%s\n%v", text, err)
	}
	kept := map[string]string{
		"priv/ceph/ceph.keyring": "[client.admin]\n\tkey = AQ==\n", "priv/ceph/fs.secret": "AQ==\n", "priv/storage/bak.pw": "geheim1\n",
		"priv/storage/bak.enc": `{"data":"x","fingerprint":"aa:bb"}`, "priv/storage/bak.master.pem": "-----BEGIN PUBLIC KEY-----\n",
		"priv/storage/old.pw": "geheim2\n",
	}
	for name, want := range kept {
		got, err := os.ReadFile(filepath.Join(p.Tree, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	p.play(t, [][2]string{
		{"set bak --delete encryption-key", "0"}, {"remove ceph", "0"}, {"remove fs", "0"}, {"remove old", "0"},
	})
	for name := range kept {
		_, err := os.Stat(filepath.Join(p.Tree, name))
		if stays := name == "priv/storage/bak.pw" || name == "priv/storage/bak.master.pem"; os.IsNotExist(err) == stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPasswordIsAskedFor(t *testing.T) {
	p := newPlace(t, "")
	var out, err strings.Builder
	args := strings.Fields("add cifs win --server s --share x --password --username u")
	if code := New(p).Run(t.Context(), args, strings.NewReader("typed in\n"), &out, &err); code != 0 || err.String() != "Enter Password: \n" {
		t.Fatal(code, err.String())
	}
	if text, err := os.ReadFile(filepath.Join(p.Tree, "priv/storage/win.pw")); err != nil || string(text) != "password=typed in\n" {
		t.Errorf("%q, %v", text, err)
	}
}
