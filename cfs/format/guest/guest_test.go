package guest

import (
	"strings"
	"testing"

	"etcpve/cfs/layout"
)

const vm = `# The mail server: handle with care
#%C3%9Cber all
agent: 1,fstrim_cloned_disks=1
boot: order=scsi0;net0
cdrom: none,media=cdrom
description: and more
foo-bar: kept
memory: 2048
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20
name: mail
onboot: yes
scsi0: local:100/vm-100-disk-0.qcow2,discard=on,size=32G
smp: 4
cores: 2
unused0: local:100/vm-100-disk-0.qcow2
unused1: local:100/vm-100-disk-9.qcow2

[pending]
delete: balloon,!unused1
memory: 4096

[special:cloudinit]
anything: goes

[Before]
#first
memory: 1024
snaptime: 1700000000
`

func TestCanonicalText(t *testing.T) {
	c, problems := Parse(layout.QEMU, 100, vm)
	if len(problems) != 1 || problems[0].Full != "vm 100 - unable to parse value of 'foo-bar' - unknown setting 'foo-bar'\n" || !problems[0].Unknown {
		t.Errorf("problems %v", problems)
	}
	want := `# The mail server%3A handle with care
#%C3%9Cber all
#and more
agent: 1,fstrim_cloned_disks=1
boot: order=scsi0;net0
ide2: none,media=cdrom
memory: 2048
name: mail
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20
onboot: 1
scsi0: local:100/vm-100-disk-0.qcow2,discard=on,size=32G
sockets: 4
unused1: local:100/vm-100-disk-9.qcow2

[PENDING]
delete: balloon,!unused1
memory: 4096

[Before]
#first
memory: 1024
snaptime: 1700000000
`
	if got := c.Text(); got != want {
		t.Errorf("text\n%s\nwant\n%s", got, want)
	}
}

func TestProblemsSayWhatIsWrong(t *testing.T) {
	tests := []struct {
		kind          layout.Kind
		content, want string
	}{
		{layout.QEMU, "nonsense\n", "vm 9 - unable to parse config: nonsense\n"},
		{layout.QEMU, "delete: foo\n", "vm 9 - property 'delete' is only allowed in [PENDING]\n"},
		{layout.QEMU, "onboot: maybe\n", "vm 9 - unable to parse value of 'onboot' - type check ('boolean') failed - got 'maybe'\n"},
		{layout.QEMU, "cores: two\n", "vm 9 - unable to parse value of 'cores' - type check ('integer') failed - got 'two'\n"},
		{layout.QEMU, "cpulimit: 1.\n", "vm 9 - unable to parse value of 'cpulimit' - type check ('number') failed - got '1.'\n"},
		{layout.QEMU, "[1]\na: b\n[PENDING]\n", "vm 9 - skipping unknown section: '1'\n"},
		{layout.QEMU, "[aa]\n[aa]\n", "vm 9 - duplicate snapshot section: aa\n"},
		{layout.QEMU, "[Special:fleecing]\n[special:fleecing]\n", "vm 9 - duplicate special section: fleecing\n"},
		{layout.QEMU, "[pending]\n[PENDING]\n", "vm 9 - duplicate section: pending\n"},
		{layout.QEMU, "net0: virtio,bridge=vmbr0,color=red\n", "vm 9 - unable to parse value of 'net0' - invalid key in comma-separated list property: color\n"},
		{layout.QEMU, "net0: bridge=vmbr0\n", "vm 9 - unable to parse value of 'net0' - format error\nmodel: property is missing and it is not optional\n"},
		{layout.QEMU, "name: a_b\n", "vm 9 - unable to parse value of 'name' - value does not look like a valid DNS name\n"},
		{layout.LXC, "lxc.rootfs.path: /\n", "vm 9 - lxc.rootfs.path: lxc.rootfs.path is auto generated from rootfs\n"},
		{layout.LXC, "lxc.made.up = 1\n", "vm 9 - unable to parse config: lxc.made.up = 1\n"},
	}
	for _, test := range tests {
		_, problems := Parse(test.kind, 9, test.content)
		if len(problems) != 1 || problems[0].Full != test.want {
			t.Errorf("%q: problems %q, want %q", test.content, problems, test.want)
		}
	}
}

func TestCheckNamesPlaceKeyAndReason(t *testing.T) {
	tests := []struct{ content, refusal string }{
		{"memory: 512\ncores: 0\n", "2:8: cores: value must have a minimum value of 1"},
		{"ostype: l27\n", "1:9: ostype: value 'l27' does not have a value in the enumeration 'other, wxp, w2k, w2k3, w2k8, wvista, win7, win8, win10, win11, l24, l26, solaris'"},
		{"scsi0:   local:1/a.raw,cache=fast\n", "1:24: scsi0: cache: value 'fast' does not have a value in the enumeration 'none, writethrough, writeback, unsafe, directsync'"},
		{"\n\nmemory 512\n", `3:1: expected "key: value"`},
		{"[PENDING]\nballoon: -1\n", "2:10: balloon: type check ('integer') failed - got '-1'"},
		{"[my snapshot]\n", "1:2: unknown section 'my snapshot': a snapshot's name is a letter followed by letters, digits, '_' or '-'"},
		{"memory: 512\nnew-thing: 1\n# note\n", ""},
		{"lock: backup\nparent: before\n", ""},
	}
	for _, test := range tests {
		refusals, _ := Check(layout.QEMU, 1, test.content)
		got := ""
		for _, r := range refusals {
			got += r.Error()
		}
		if got != test.refusal {
			t.Errorf("%q: refused with %q, want %q", test.content, got, test.refusal)
		}
	}
}

func TestCheckWarnsOfWhatIsKept(t *testing.T) {
	refusals, warnings := Check(layout.QEMU, 1, "memory: 512\nmemory: 1024\nnew-thing: 1\n")
	if len(refusals) != 0 || len(warnings) != 2 {
		t.Fatalf("refusals %v, warnings %v", refusals, warnings)
	}
	if got := warnings[0].Error() + "; " + warnings[1].Error(); got != "3:1: new-thing: unknown setting 'new-thing'; 2:1: memory: set again; only the last one counts" {
		t.Errorf("warnings %q", got)
	}
}

func TestContainerKeepsRawSettings(t *testing.T) {
	content := "rootfs: local:100/a.raw\nlxc.cgroup2.devices.allow = c 1:1 rwm\nlxc.idmap: u 0 100000 65536\nlxc.idmap: g 0 100000 65536\n\n[pve:pending]\nmemory: 64\n"
	c, problems := Parse(layout.LXC, 100, content)
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	want := strings.ReplaceAll(content, " = ", ": ")
	if got := c.Text(); got != want {
		t.Errorf("text\n%s\nwant\n%s", got, want)
	}
}

func TestContainerKeepsWhatItDoesNotUnderstand(t *testing.T) {
	content := "cores: many\nnew-thing: 1\n\n[before]\nvmstate: x\n"
	c, problems := Parse(layout.LXC, 100, content)
	if len(problems) != 3 || problems[0].Unknown || !problems[1].Unknown {
		t.Errorf("problems %v", problems)
	}
	if got := c.Text(); got != content {
		t.Errorf("text\n%s\nwant\n%s", got, content)
	}
	c.Main.Set("cores", "2")
	want := strings.Replace(content, "many", "2", 1)
	if got := Update(content, c); got != want {
		t.Errorf("updated\n%s\nwant\n%s", got, want)
	}
}

func TestUpdateTouchesOnlyWhatChanged(t *testing.T) {
	tests := []struct {
		name, content string
		change        func(*Config)
		want          string
	}{
		{"nothing", vm, func(*Config) {}, ""},
		{
			"one value keeps odd lines", "memory:   512  \r\nzzz: kept\nname:x\n",
			func(c *Config) { c.Main.Set("memory", "1024") },
			"memory: 1024\r\nzzz: kept\nname:x\n",
		},
		{
			"a new setting goes where it sorts", "#text\nacpi: 1\nmemory: 512\n",
			func(c *Config) { c.Main.Set("cores", "2") },
			"#text\nacpi: 1\ncores: 2\nmemory: 512\n",
		},
		{
			"a last line without end", "acpi: 1\nmemory: 512",
			func(c *Config) { c.Main.Set("name", "a") },
			"acpi: 1\nmemory: 512\nname: a\n",
		},
		{
			"removal", "acpi: 1\n\nmemory: 512\n",
			func(c *Config) { c.Main.Delete("memory") },
			"acpi: 1\n\n",
		},
		{
			"description", "# old\nacpi: 1\n# older\n",
			func(c *Config) { c.Main.Set("description", "new: 1\nnew 2") },
			"#new%3A 1\n#new 2\nacpi: 1\n",
		},
		{
			"sections in their order", "acpi: 1\n\n[zz]\nacpi: 1\n\n\n[1 odd]\nx\n",
			func(c *Config) {
				c.Pending.Set("acpi", "0")
				c.Snapshots["aa"] = NewSection()
				c.Snapshots["aa"].Set("acpi", "0")
			},
			"acpi: 1\n\n[PENDING]\nacpi: 0\n\n[aa]\nacpi: 0\n\n[zz]\nacpi: 1\n\n\n[1 odd]\nx\n",
		},
		{
			"a section goes with the blank line before it", "acpi: 1\n\n[PENDING]\nacpi: 0\n\n[zz]\nacpi: 1\n",
			func(c *Config) { c.Pending.Delete("acpi") },
			"acpi: 1\n\n[zz]\nacpi: 1\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _ := Parse(layout.QEMU, 100, test.content)
			if test.want == "" { // what is written is cleaned of volumes in use and cloud-init without its drive
				c.Main.Delete("unused0")
				test.want = strings.Replace(strings.Replace(test.content, "unused0: local:100/vm-100-disk-0.qcow2\n", "", 1), "\n[special:cloudinit]\nanything: goes\n", "", 1)
				test.want = strings.Replace(strings.Replace(test.want, "smp: 4\ncores: 2\n", "", 1), "scsi0: local:100/vm-100-disk-0.qcow2,discard=on,size=32G\n", "scsi0: local:100/vm-100-disk-0.qcow2,discard=on,size=32G\nsockets: 4\n", 1)
			}
			test.change(c)
			if got := Update(test.content, c); got != test.want {
				t.Errorf("updated\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	tests := []struct{ key, value, volume, canonical, err string }{
		{"scsi0", "size=1024M,file=local:1/a.raw,cache=none", "local:1/a.raw", "local:1/a.raw,cache=none,size=1G", ""},
		{"virtio1", "/dev/sdb,iothread=1", "/dev/sdb", "/dev/sdb,iothread=1", ""},
		{"ide2", "local:iso/a.iso,media=cdrom,size=4K", "local:iso/a.iso", "local:iso/a.iso,media=cdrom,size=4K", ""},
		{"sata0", "local:a,bps=1048576", "local:a", "local:a,mbps=1.000", ""},
		{"sata0", "local:a,mbps=1,mbps_rd=2", "", "", "sata0: mbps excludes separate limits for reading and writing"},
		{"virtio0", "none,media=cdrom", "", "", "virtio0: a CD-ROM drive has no snapshot or format option and no virtio bus"},
		{"scsi31", "local:a", "", "", "scsi31: not a volume"},
		{"net0", "virtio", "", "", "net0: not a volume"},
		{"efidisk0", "local:a,efitype=4m,pre-enrolled-keys=on,size=0", "local:a", "local:a,efitype=4m,pre-enrolled-keys=1,size=0T", ""},
	}
	for _, test := range tests {
		v, err := ParseVolume(layout.QEMU, test.key, test.value)
		switch {
		case err != nil || test.err != "":
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: %s: error %v, want %s", test.key, test.value, err, test.err)
			}
		case v.Volume != test.volume || v.String() != test.canonical:
			t.Errorf("%s: %s is %s, %s; want %s, %s", test.key, test.value, v.Volume, v, test.volume, test.canonical)
		}
	}
}

func TestBootOrder(t *testing.T) {
	disks := "ide2: none,media=cdrom\nscsi3: local:a\nvirtio0: local:b\nnet1: virtio\nnet10: virtio\n"
	tests := []struct{ content, want string }{
		{"boot: order=net0;scsi0\n", "net0 scsi0"},
		{disks, "scsi3 ide2 net1 net10"},
		{disks + "bootdisk: virtio0\nboot: dc\n", "ide2 virtio0"},
		{disks + "boot: order=\n", "scsi3 ide2 net1 net10"}, // not readable, so as if it were not there
		{"", ""},
	}
	for _, test := range tests {
		c, _ := Parse(layout.QEMU, 1, test.content)
		order, err := BootOrder(c.Main)
		if got := strings.Join(order, " "); err != nil || got != test.want {
			t.Errorf("%q boots %q, %v; want %q", test.content, got, err, test.want)
		}
	}
}

func TestTypedValues(t *testing.T) {
	c, _ := Parse(layout.QEMU, 1, "memory: current=2048\nnet1: e1000=BC:24:11:00:00:02,bridge=vmbr1\nnet0: model=virtio\nacpi: 0\ntags: b;a\n")
	if got := Memory(layout.QEMU, c.Main); got != 2048 {
		t.Errorf("memory %d", got)
	}
	if got := Memory(layout.QEMU, NewSection()); got != 512 {
		t.Errorf("default memory %d", got)
	}
	nets := Nets(layout.QEMU, c.Main)
	if len(nets) != 2 || nets[1].Model != "e1000" || nets[1].MAC != "BC:24:11:00:00:02" || nets[1].Bridge != "vmbr1" || nets[0].String() != "virtio" || nets[1].String() != "e1000=BC:24:11:00:00:02,bridge=vmbr1" {
		t.Errorf("nets %v", nets)
	}
	if c.Main.Bool(layout.QEMU, "acpi") || !c.Main.Bool(layout.QEMU, "kvm") || c.Main.Int(layout.QEMU, "cores") != 1 {
		t.Error("values or defaults are wrong")
	}
	if got := strings.Join(c.Main.Tags(), " "); got != "b a" {
		t.Errorf("tags %q", got)
	}
}

func TestRestoreLeavesTheOldGuestBehind(t *testing.T) {
	content := "#qmdump#map:scsi0:drive-scsi0:old:qcow2:\nlock: backup\nparent: x\nunused3: old:a\nscsi0: old:a,size=1G,format=qcow2,cache=none\nscsi1: old:b,backup=0\nname: a\n"
	want := "scsi0: new:a,cache=none,size=1G\n#scsi1: old:b,backup=0\nname: a\n"
	if got := Restore(content, map[string]string{"scsi0": "new:a"}); got != want {
		t.Errorf("restored %q, want %q", got, want)
	}
	drives := BackupDrives(content + "#qmdump#map:ide0:drive-ide0:old::\n")
	if len(drives) != 2 || drives[0].Format != "qcow2" || drives[1].Format != "raw" || drives[1].Device != "drive-ide0" {
		t.Errorf("drives %v", drives)
	}
}

func TestPendingDeletions(t *testing.T) {
	c := New(layout.QEMU, 1)
	c.Main.Set("cores", "2")
	c.Pending.Set("cores", "2")
	c.Pending.AddDeletion("cores", true)
	c.Pending.AddDeletion("cores", false)
	c.Pending.AddDeletion("memory", false)
	if got := c.Pending.Get("delete"); got != "!cores,memory" {
		t.Errorf("delete %q", got)
	}
	if !c.CleanPending() || c.CleanPending() {
		t.Error("cleaning does not end")
	}
	if got := c.Pending.Get("delete"); got != "!cores" || c.Pending.Len() != 1 {
		t.Errorf("after cleaning delete is %q", got)
	}
	c.Pending.DropDeletion("cores")
	if c.Pending.Len() != 0 {
		t.Error("an empty delete stays")
	}
}

func TestIDMaps(t *testing.T) {
	s := NewSection()
	s.Raw = []Raw{{"lxc.idmap", "u 0 100000 10"}, {"lxc.idmap", "u 9 5 1"}, {"lxc.idmap", "g 0 100009 10"}}
	maps, err := IDMaps(s)
	if err != nil || HostID(maps, "u") != 100000 || HostID(maps, "g") != 100009 {
		t.Fatalf("maps %v, %v", maps, err)
	}
	want := "invalid map entry 'u 9 5 1': container uid 9 is also mapped by entry 'u 0 100000 10'"
	if err := CheckIDMaps(maps); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := CheckIDMaps(maps[1:]); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{vm, "", "[", "[a]", "\r\n#\n#%", "net0: virtio=,,", "lxc.a = b", "description: a\n[PENDING]\n#"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		for _, kind := range []layout.Kind{layout.QEMU, layout.LXC} {
			c, problems := Parse(kind, 100, content)
			text := c.Text()
			again, more := Parse(kind, 100, text)
			if len(more) > 0 && len(problems) == 0 {
				t.Fatalf("canonical text has problems %v\n%s", more, text)
			}
			if got := again.Text(); got != text {
				t.Fatalf("canonical text is not stable\n%q\nbecomes\n%q", text, got)
			}
			updated, _ := Parse(kind, 100, Update(content, c))
			if got := updated.Text(); got != text {
				t.Fatalf("update changes the meaning\n%q\nbecomes\n%q", text, got)
			}
			Check(kind, 100, content)
			BootOrder(c.Main)
			Restore(content, map[string]string{"scsi0": "a:b"})
		}
	})
}
