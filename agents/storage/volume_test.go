package storage

import (
	"strings"
	"testing"
	"time"
)

func TestFileNames(t *testing.T) {
	for _, c := range []struct {
		name string
		want Volume
		err  string
	}{
		{"100/web.raw", Volume{Content: Images, File: "web.raw", VMID: 100, Format: "raw"}, ""},
		{"100/base-1.qcow2", Volume{Content: Images, File: "base-1.qcow2", VMID: 100, Format: "qcow2", IsBase: true}, ""},
		{"7/base-7.qcow2/8/vm-8.qcow2", Volume{Content: Images, File: "vm-8.qcow2", VMID: 8, Format: "qcow2", Base: "base-7.qcow2", BaseVMID: 7}, ""},
		{"100/ct.subvol", Volume{Content: Images, File: "ct.subvol", VMID: 100, Format: "subvol"}, ""},
		{"iso/Old DOS.ISO", Volume{Content: ISO, File: "Old DOS.ISO", Format: "raw"}, ""},
		{"vztmpl/a.tar", Volume{Content: Vztmpl, File: "a.tar", Format: "raw"}, ""},
		{"backup/vzdump-lxc-9-x.tgz", Volume{Content: Backup, File: "vzdump-lxc-9-x.tgz", VMID: 9, Format: "raw"}, ""},
		{"backup/mine.vma", Volume{Content: Backup, File: "mine.vma", Format: "raw"}, ""},
		{"import/a b.ova/c d.raw", Volume{Content: Import, File: "a b.ova/c d.raw", Format: "ova+raw"}, ""},
		{"import/m.vmdk", Volume{Content: Import, File: "m.vmdk", Format: "vmdk"}, ""},
		{"100/web.iso", Volume{}, "unable to parse volume filename 'web.iso'"},
		{"snippets/a/b", Volume{}, "unable to parse directory volume name 'snippets/a/b'"},
		{"import/a;b.raw", Volume{}, "unable to parse directory volume name 'import/a;b.raw'"},
		{"nothing", Volume{}, "unable to parse directory volume name 'nothing'"},
	} {
		c.want.Name = c.name
		if c.err != "" {
			c.want.Name = ""
		}
		got, err := ParseFile(c.name)
		if text := ""; err != nil {
			if text = err.Error(); text != c.err {
				t.Errorf("%s: error %q; want %q", c.name, text, c.err)
			}
			continue
		}
		if c.err != "" || got != c.want {
			t.Errorf("%s: %+v; want %+v %s", c.name, got, c.want, c.err)
		}
	}
}

func TestBlockNames(t *testing.T) {
	zfs := BlockForm{Type: "zfs", Names: "vm|base|subvol|basevol", Bases: "base|basevol"}
	lvm := BlockForm{Type: "lvm", Names: "vm"}
	v, err := zfs.Parse("basevol-7-disk-0/subvol-8-disk-1")
	want := Volume{"basevol-7-disk-0/subvol-8-disk-1", Images, "subvol-8-disk-1", 8, "basevol-7-disk-0", 7, false, "subvol"}
	if err != nil || v != want {
		t.Errorf("%+v, %v; want %+v", v, err, want)
	}
	if v, err := zfs.Parse("base-9-disk-0"); err != nil || !v.IsBase || v.Format != "raw" {
		t.Errorf("%+v, %v", v, err)
	}
	for _, name := range []string{"base-9-disk-0", "base-9-disk-0/vm-8-disk-0", "vm-x-disk", "vm-8-a b", "../vm-8-disk-0"} {
		if v, err := lvm.Parse(name); err == nil || err.Error() != "unable to parse lvm volume name '"+name+"'" {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestFreeNameIsLowest(t *testing.T) {
	names := []string{"vm-8-disk-0.qcow2", "base-8-disk-1.raw", "vm-9-disk-2", "vm-8-disk-3", "vm-8-state-x", "vm-88-disk-2"}
	if got, err := FreeName("vm", 8, ".raw", names); err != nil || got != "vm-8-disk-2.raw" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestArchiveNames(t *testing.T) {
	a, err := ParseArchive("backup/vzdump-qemu-500-2024_02_29-01_02_03.vma.zst", time.UTC)
	if err != nil || !a.Standard || a.VMID != 500 || a.Created.Unix() != 1709168523 || a.Compression != "zst" || strings.Join(a.Decompressor, " ") != "zstd -q -d -c" {
		t.Errorf("%+v, %v", a, err)
	}
	if a.Log != "vzdump-qemu-500-2024_02_29-01_02_03.log" || a.Notes != "vzdump-qemu-500-2024_02_29-01_02_03.vma.zst.notes" {
		t.Errorf("%+v", a)
	}
	a, err = ParseArchive("/x/vzdump-lxc-golden.tar", time.UTC)
	if err != nil || a.Standard || a.Type != "lxc" || a.Format != "tar" || a.Compression != "" || a.Decompressor != nil {
		t.Errorf("%+v, %v", a, err)
	}
	for _, name := range []string{"vzdump-qemu-500-2024_02_29-01_02_03.vma.xz", "vzdump-5.tar", "vzdump-lxc-.tar.gz.gz"} {
		if a, err := ParseArchive(name, time.UTC); err == nil && a.Standard {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestPrune(t *testing.T) {
	at := func(day string) Candidate {
		return Candidate{ID: "s:backup/vzdump-qemu-500-2024_" + day + ".vma", VMID: 500}
	}
	protected := at("01_31-12_00_00")
	protected.Protected = true
	backups := []Candidate{at("01_29-12_00_00"), at("01_29-13_00_00"), at("01_30-12_00_00"), protected, at("01_01-12_00_00"), {ID: "s:backup/vzdump-lxc-own.tgz"}}
	// What is protected is said first, whatever its name.
	mine := Prune([]Candidate{{ID: "s:backup/vzdump-lxc-own.tgz", Protected: true}}, Retention{"keep-last": 1}, "", 0, time.UTC)
	if mine[0].Mark != Protected || mine[0].Type != "lxc" {
		t.Errorf("%+v", mine)
	}
	for _, c := range []struct {
		keep Retention
		want string
	}{
		{Retention{}, "own:renamed 01-12:keep 29-12:keep 29-13:keep 30-12:keep 31-12:protected"},
		{Retention{"keep-all": 1, "keep-last": 1}, "own:renamed 01-12:keep 29-12:keep 29-13:keep 30-12:keep 31-12:protected"},
		{Retention{"keep-last": 1}, "own:renamed 01-12:remove 29-12:remove 29-13:remove 30-12:keep 31-12:protected"},
		{Retention{"keep-daily": 2}, "own:renamed 01-12:remove 29-12:remove 29-13:keep 30-12:keep 31-12:protected"},
		{Retention{"keep-last": 1, "keep-weekly": 1}, "own:renamed 01-12:keep 29-12:remove 29-13:remove 30-12:keep 31-12:protected"},
		{Retention{"keep-hourly": 1, "keep-daily": 1, "keep-yearly": 3}, "own:renamed 01-12:remove 29-12:remove 29-13:keep 30-12:keep 31-12:protected"},
	} {
		var got []string
		for _, b := range Prune(backups, c.keep, "", 0, time.UTC) {
			name := "own"
			if b.VMID != 0 {
				name = time.Unix(b.Created, 0).UTC().Format("02-15")
			}
			got = append(got, name+":"+string(b.Mark))
		}
		if line := strings.Join(got, " "); line != c.want {
			t.Errorf("%v: %s; want %s", c.keep, line, c.want)
		}
	}
}

func TestLimit(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	settings := map[string]string{"slow": "default=10,move=20", "none": "", "fast": "move=500"}
	for _, c := range []struct {
		name       string
		storages   []string
		override   *float64
		may        string
		datacenter string
		want       *float64
	}{
		{"own value before default", []string{"slow"}, nil, "", "move=5", value(20)},
		{"smallest wins", []string{"slow", "fast"}, nil, "", "", value(20)},
		{"one storage without a value", []string{"fast", "none"}, nil, "", "move=50", value(50)},
		{"no storage", nil, nil, "", "default=7", value(7)},
		{"override of one", []string{"slow", "fast"}, value(0), "/storage/slow", "", value(500)},
		{"override of all", []string{"slow"}, value(0), "/storage", "default=1", value(0)},
		{"override too high", []string{"slow"}, value(99), "", "", value(20)},
		{"right without override", []string{"slow"}, nil, "/storage", "", value(20)},
		{"nothing", []string{"none"}, nil, "", "", nil},
	} {
		got := Bandwidth{
			Operation: "move", Storages: c.storages, Override: c.override, Datacenter: c.datacenter,
			Can: func(path, _ string) bool { return path == c.may },
			Of:  func(id string) string { return settings[id] },
		}.Limit()
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestUse(t *testing.T) {
	rights := map[string]bool{"/storage/st Datastore.AllocateSpace": true, "/vms/5 VM.Backup": true}
	can := func(path, privilege string) bool { return rights[path+" "+privilege] }
	for _, c := range []struct {
		volume, content string
		vmid            uint32
		ok              bool
	}{
		{"st:iso/a.iso", ISO, 0, true},
		{"st:iso/a.iso", Images, 0, false},
		{"xx:iso/a.iso", ISO, 0, false},
		{"st:5/vm-5.raw", Rootdir, 5, true},
		{"st:5/vm-5.raw", "", 6, false},
		{"st:backup/vzdump-lxc-5-a.tar", "", 6, true},
		{"st:backup/vzdump-lxc-6-a.tar", "", 5, false},
		{"st:snippets/a", "", 5, false},
		{"/dev/sda", "", 5, false},
	} {
		if err := CheckUse(c.volume, ParseFile, c.content, c.vmid, false, can); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestConfigs(t *testing.T) {
	all, warnings := ParseConfigs("nfs: broken\n\tserver x\n\tpath /x\n\nnfs: nas\n\tpath /mnt/pve/nas\n\tserver 192.0.2.1\n\texport /x\n\tnodes a,b\n\tcontent images,iso\n\n" +
		"dir: dd\n\tpath /d\n\tdisable\n\tcontent-dirs iso=my/isos\n\tmax-protected-backups 9\n\nfuture: ff\n\tkey value\n")
	if len(warnings) != 1 || !strings.Contains(strings.Join(warnings, ""), "line 4 (skip section 'broken')") {
		t.Errorf("%q", warnings)
	}
	if len(all) != 4 || all[0].ID != "local" {
		t.Fatalf("%v %q", len(all), warnings)
	}
	nas, d := all[1], all[2]
	if nas.Path() != "/mnt/pve/nas" || !nas.Shared() || nas.OnNode("c") || !nas.OnNode("b") || !nas.Enabled() {
		t.Errorf("nas: %+v", nas)
	}
	if err := nas.Keeps(Backup); err == nil || err.Error() != "storage 'nas' does not support content-type 'backup'" {
		t.Error(err)
	}
	if dir, err := d.Subdir(ISO); err != nil || dir != "/d/my/isos" || d.Enabled() || d.Shared() {
		t.Errorf("d: %s, %v", dir, err)
	}
	if d.MaxProtected(true) != 9 || nas.MaxProtected(true) != -1 || nas.MaxProtected(false) != 5 {
		t.Error("limit of protected backups")
	}
	if f := all[3]; f.Type != "future" || f.Value("key") != "value" {
		t.Errorf("unknown type: %+v", f)
	}
}

func FuzzNames(f *testing.F) {
	for _, name := range []string{"local:100/vm-100-disk-0.qcow2", "s:7/base-7.raw/8/vm-8.raw", "s:base-7-disk-0/vm-8-disk-0", "s:backup/vzdump-lxc-9-x.tgz"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err != nil {
			return
		}
		if id.String() != text {
			t.Errorf("%q is printed as %q", text, id)
		}
		if v, err := ParseFile(id.Name); err == nil && (v.Name != id.Name || v.File == "" || strings.Contains(v.File, "/") && v.Content == Images) {
			t.Errorf("%q: %+v", text, v)
		}
		_, _ = ParseArchive(text, time.UTC)
	})
}
