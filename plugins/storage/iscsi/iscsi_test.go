package iscsi_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/iscsi"
)

const iqn = "iqn.2003-01.org.example:t1"

// newPortal listens on the loopback, as a portal would.
func newPortal(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func config(portal string) *storage.Config {
	return &storage.Config{ID: "san", Type: "iscsi", Values: map[string]string{"portal": portal, "target": iqn}}
}

const sessions = "$ iscsiadm --mode session --print 0\n> tcp: [3] 192.0.2.1:3260,1 " + iqn + " (non-flash)\n> tcp: [4] 192.0.2.2:3260,1 iqn.other (non-flash)\n"

func TestLoginAndLogout(t *testing.T) {
	portal := newPortal(t)
	script := hosttest.New(t, `
$ iscsiadm --mode session --print 0
! iscsiadm: No active sessions.
= 21
$ iscsiadm --mode discovery --type sendtargets --portal `+portal+`
> `+portal+`,1 `+iqn+`
> `+portal+`,1 iqn.other
$ iscsiadm --mode node --targetname `+iqn+` --login
$ iscsiadm --mode node --targetname `+iqn+` --op update --name node.startup --value manual
`+sessions+`
$ iscsiadm --mode session --sid 3 --rescan
`+sessions+`
$ iscsiadm --mode node --targetname `+iqn+` --logout
`)
	p, c := iscsi.New(script, t.TempDir()), config(portal)
	for range 2 {
		if err := p.Activate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Deactivate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownTargetIsRefused(t *testing.T) {
	portal := newPortal(t)
	script := hosttest.New(t, `
$ iscsiadm --mode session --print 0
= 21
$ iscsiadm --mode discovery --type sendtargets --portal `+portal+`
> `+portal+`,1 iqn.other
`)
	if err := iscsi.New(script, t.TempDir()).Activate(t.Context(), config(portal)); err == nil || !strings.Contains(err.Error(), "has no target '"+iqn+"'") {
		t.Error(err)
	}
}

func TestLUNsAreNamedByWhatLasts(t *testing.T) {
	root := t.TempDir()
	disk := filepath.Join(root, "sys/class/iscsi_session/session3/device/target3:0:0/3:0:0:1/block/sdb")
	other := filepath.Join(root, "sys/class/iscsi_session/session4/device/target4:0:0/4:0:0:1/block/sdc")
	for _, dir := range []string{disk, other, filepath.Join(root, "dev/disk/by-id")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(disk, "size"), []byte("2048\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"wwn-0x3600", "scsi-3600", "ata-x"} {
		if err := os.Symlink("../../sdb", filepath.Join(root, "dev/disk/by-id", link)); err != nil {
			t.Fatal(err)
		}
	}
	p := iscsi.New(hosttest.New(t, sessions+sessions), root)
	all, err := p.List(t.Context(), config("192.0.2.1"), storage.Query{Content: storage.Images})
	if err != nil || len(all) != 1 || all[0].Name != "0.0.1.scsi-3600" || all[0].Size != 1<<20 {
		t.Fatalf("%+v, %v", all, err)
	}
	v, err := p.Parse(all[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	if path, err := p.Path(nil, v, ""); err != nil || path != "/dev/disk/by-id/scsi-3600" {
		t.Errorf("%s, %v", path, err)
	}
	if size, err := p.Size(t.Context(), config("192.0.2.1"), v); err != nil || size != 1<<20 {
		t.Errorf("%d, %v", size, err)
	}
	for _, name := range []string{"", "lun1", "0.0.1.", "0.0.1.a/b", "0.0.x"} {
		if _, err := p.Parse(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if _, err := p.Alloc(t.Context(), config("x"), storage.Request{}); err == nil {
		t.Error("a LUN was made")
	}
}
