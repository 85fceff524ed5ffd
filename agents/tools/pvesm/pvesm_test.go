package pvesm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/agents/tools/cli/clitest"
)

var update = flag.Bool("update", false, "rewrite what is generated from the table of commands")

func newPlace(t *testing.T, transcript string) Place {
	t.Helper()
	p := Place{Catalog: storage.Catalog{Tree: t.TempDir(), Node: "n1", Locks: t.TempDir(), Run: hosttest.New(t, transcript)}}
	p.Plugins = map[string]storage.Plugin{"lvmthin": &storagetest.Memory{}, "nfs": &storagetest.Memory{}, "cifs": &storagetest.Memory{}}
	if err := os.MkdirAll(filepath.Join(p.Tree, "priv/lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p Place) pvesm(t *testing.T, args ...string) string {
	t.Helper()
	var out, err strings.Builder
	code := New(p).Run(t.Context(), args, nil, &out, &err)
	return fmt.Sprintf("%s%s%d", out.String(), err.String(), code)
}

// play runs commands one after the other; each entry is a command and what it
// prints, errors and exit code last.
func (p Place) play(t *testing.T, steps [][2]string) {
	t.Helper()
	for _, s := range steps {
		args := strings.Fields(s[0])
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "''", "")
		}
		if got := p.pvesm(t, args...); got != s[1] {
			t.Errorf("pvesm %s:\n%s\nwant\n%s", s[0], got, s[1])
		}
	}
}

func TestVolumesComeAndGo(t *testing.T) {
	p := newPlace(t, "")
	p.play(t, [][2]string{
		{"add lvmthin thin --vgname vg --thinpool data --content images", "0"},
		{"alloc thin 100 '' 4M", "successfully created 'thin:vm-100-disk-0'\n0"},
		{"alloc thin 100 '' 2048", "successfully created 'thin:vm-100-disk-1'\n0"},
		{"list thin", "Volid              Format  Type              Size VMID\n" +
			"thin:vm-100-disk-0 raw     images         4194304 100\n" +
			"thin:vm-100-disk-1 raw     images         2097152 100\n0"},
		{"path thin:vm-100-disk-1", "memory:thin/vm-100-disk-1\n0"},
		{"status --storage thin", "Name        Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %\n" +
			"thin     lvmthin     active      1073741824            6144      1073735680    0.00%\n0"},
		{"free thin:vm-100-disk-0", "Removed volume 'thin:vm-100-disk-0'\n0"},
		{"free vm-100-disk-1 --storage thin", "Removed volume 'thin:vm-100-disk-1'\n0"},
		{"free thin:vm-100-disk-1", "no such volume 'vm-100-disk-1'\n255"},
		{"alloc thin 100 x.subvol 1", "storage 'thin' does not support content-type 'rootdir'\n255"},
		{"export thin:vm-100-disk-1 raw+size -", "volume 'thin:vm-100-disk-1': streams are not supported by this type of storage\n255"},
		{"apiinfo", "APIVER 1\nAPIAGE 0\n0"},
	})
}

func TestDefinitionsAreEdited(t *testing.T) {
	p := newPlace(t, "")
	path := filepath.Join(p.Tree, storage.File)
	const before = "# ours\nlvmthin: thin\n\tvgname vg\n\tthinpool data\n\todd key\n\n"
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	p.play(t, [][2]string{
		{"add lvmthin thin --vgname a --thinpool b", "storage ID 'thin' already defined\n255"},
		{"add nfs nas --server 192.0.2.1 --export /x --content iso,images", "0"},
		{"add cifs win --server s --share x --username u --password secret", "0"},
		{"set thin --content images --nodes n1,n2", "0"},
		{"set thin --content images --nodes n1 --delete nodes", "unable to set and delete option 'nodes' at the same time\n255"},
		{"set thin --delete vgname", "unable to delete required option 'vgname'\n255"},
		{"set thin --delete server", "no such option 'server'\n255"},
		{"set nas --snapshot-as-volume-chain 1", "can't change value of fixed parameter 'snapshot-as-volume-chain'\n255"},
		{"set thin --delete nodes", "0"},
		{"set none --content iso", "storage 'none' does not exist\n255"},
		{"remove none", "delete storage failed: storage 'none' does not exist\n255"},
	})
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# ours\nlvmthin: thin\n\tvgname vg\n\tthinpool data\n\todd key\n\tcontent images\n") ||
		!strings.Contains(string(text), "nfs: nas\n\tpath /mnt/pve/nas\n") || strings.Contains(string(text), "secret") {
		t.Errorf("%s\n%v", text, err)
	}
	password := filepath.Join(p.Tree, "priv/storage/win.pw")
	if text, err := os.ReadFile(password); err != nil || string(text) != "password=secret\n" {
		t.Errorf("%s, %v", text, err)
	}
	p.play(t, [][2]string{{"remove win", "0"}, {"remove nas", "0"}})
	if _, err := os.Stat(password); !os.IsNotExist(err) {
		t.Errorf("the password stays: %v", err)
	}
}

func TestPruneRemovesWhatThePreviewSays(t *testing.T) {
	p := newPlace(t, "")
	dump := t.TempDir()
	p.Plugins["dir"] = backups{dir: dump}
	var names []string
	for _, day := range []string{"01", "02", "03"} {
		name := "vzdump-lxc-100-2024_01_" + day + "-00_00_00.tar"
		names = append(names, name)
		if err := os.WriteFile(filepath.Join(dump, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.Tree, storage.File), []byte("dir: bak\n\tpath "+dump+"\n\tcontent backup\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	preview := p.pvesm(t, "prune-backups", "bak", "--keep-last", "1", "--dry-run")
	if strings.Count(preview, "  lxc/100     remove\n") != 2 || strings.Count(preview, "  lxc/100       keep\n") != 1 {
		t.Error(preview)
	}
	p.play(t, [][2]string{
		{"prune-backups bak", "no prune-backups options configured for storage 'bak'\n255"},
		{"prune-backups bak --keep-last 1", "Removed volume 'bak:backup/" + names[0] + "'\nRemoved volume 'bak:backup/" + names[1] + "'\n0"},
	})
}

// backups is a type of storage with nothing but backups.
type backups struct {
	storage.Plugin
	dir string
}

func (backups) Parse(name string) (storage.Volume, error) { return storage.ParseFile(name) }

func (b backups) Activate(_ context.Context, _ *storage.Config) error { return nil }

func (b backups) List(_ context.Context, _ *storage.Config, _ storage.Query) (all []storage.Info, err error) {
	entries, err := os.ReadDir(b.dir)
	for _, e := range entries {
		all = append(all, storage.Info{Name: "backup/" + e.Name(), Content: storage.Backup, VMID: 100})
	}
	return all, err
}

func (b backups) Free(_ context.Context, _ *storage.Config, v storage.Volume) error {
	return os.Remove(filepath.Join(b.dir, v.File))
}

func TestScans(t *testing.T) {
	p := newPlace(t, `
$ showmount --no-headers --exports nas
> /srv/data  192.0.2.0/24
> /srv/x     *
$ smbclient --grepable --list win --no-pass
> Disk|share|My files
> IPC|IPC$|IPC Service
$ vgs --noheadings --options vg_name
>   vg0
$ iscsiadm --mode discovery --type sendtargets --portal 192.0.2.1
> 192.0.2.1:3260,1 iqn.2003-01.org.example:t1
$ zfs list -H -t filesystem -o name
! zfs: no pool
= 1
`)
	p.play(t, [][2]string{
		{"scan nfs nas", "/srv/data 192.0.2.0/24\n/srv/x    *\n0"},
		{"cifsscan win", "share My files\n0"},
		{"scan lvm", "vg0\n0"},
		{"scan iscsi 192.0.2.1", "iqn.2003-01.org.example:t1 192.0.2.1:3260,1\n0"},
		{"scan zfs", "zfs: exit status 1: zfs: no pool\n255"},
	})
}

func TestConfigurationOfContainerBackup(t *testing.T) {
	p := newPlace(t, "$ tar -xOf /d/dump/vzdump-lxc-100-x.tar.zst ./etc/vzdump/pct.conf\n> cores: 1\n")
	p.Plugins["dir"] = files{}
	if err := os.WriteFile(filepath.Join(p.Tree, storage.File), []byte("dir: bak\n\tpath /d\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	p.play(t, [][2]string{
		{"extractconfig bak:backup/vzdump-lxc-100-x.tar.zst", "cores: 1\n0"},
		{"extractconfig bak:backup/vzdump-qemu-100-x.vma", "'vzdump-qemu-100-x.vma': the configuration inside vma archives is not supported by this type of storage\n255"},
	})
}

// files is a type of storage that only knows where its files are.
type files struct{ storage.Plugin }

func (files) Parse(name string) (storage.Volume, error) { return storage.ParseFile(name) }

func (files) Path(c *storage.Config, v storage.Volume, _ string) (string, error) {
	dir, err := c.Subdir(v.Content)
	return filepath.Join(dir, v.File), err
}

func TestGeneratedTextsAreCurrent(t *testing.T) {
	tool := New(Place{})
	const begin, end = ".\\\" begin commands\n", ".\\\" end commands\n"
	page, err := os.ReadFile("../../../man/pvesm.1")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("man/pvesm.1 has no place for the commands")
	}
	want := head + begin + tool.Mdoc() + end + tail
	if *update {
		if err := os.WriteFile("../../../man/pvesm.1", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Error("man/pvesm.1 differs from the table of commands; go test -update writes it")
	}
}

// TestGoldenCommands checks that the commands that exist here take the arguments
// of Proxmox VE's, and which of its commands are missing.
func TestCommandsAreThoseOfProxmoxVE(t *testing.T) {
	clitest.Check(t, New(newPlace(t, "")), nil)
}
