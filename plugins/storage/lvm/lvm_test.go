package lvm_test

import (
	"encoding/json"
	"testing"

	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/plugins/storage/lvm"
)

func config(kind string, settings ...string) *storage.Config {
	c := &storage.Config{ID: "lvs", Type: kind, Values: map[string]string{"vgname": "vg", "thinpool": "pool"}}
	for i := 0; i < len(settings); i += 2 {
		c.Values[settings[i]] = settings[i+1]
	}
	return c
}

func TestConforms(t *testing.T) {
	for kind, plugin := range map[string]func(storage.Runner) storage.Plugin{
		"lvm":     func(r storage.Runner) storage.Plugin { return lvm.New(r) },
		"lvmthin": func(r storage.Runner) storage.Plugin { return lvm.NewThin(r) },
	} {
		t.Run(kind, func(t *testing.T) {
			m := newMachine("vg")
			storagetest.Run(t, storagetest.Subject{Plugin: plugin(m), Config: config(kind), Format: "raw", Limit: true,
				Write: m.Write, Read: m.Read, How: "simulated commands"})
		})
	}
}

// lvsOf is the command that lists volumes, and what it prints for a thin pool
// with a volume and its snapshot.
const lvsOf = `$ lvs --reportformat json --units b --nosuffix --config 'report/time_format="%s"' --options lv_name,lv_size,lv_attr,pool_lv,origin,data_percent,lv_tags,lv_time vg
> {"report":[{"lv":[
>  {"lv_name":"data","lv_size":"1073741824","lv_attr":"twi-aotz--","data_percent":"50.00"},
>  {"lv_name":"vm-100-disk-0","lv_size":"4194304","lv_attr":"Vwi-a-tz--","pool_lv":"data","lv_tags":"pve-vm-100"},
>  {"lv_name":"snap_vm-100-disk-0_one","lv_size":"4194304","lv_attr":"Vri---tz-k","pool_lv":"data","origin":"vm-100-disk-0"},
>  {"lv_name":"vm-100-disk-0_x","lv_size":"4194304","lv_attr":"Vwi-a-tz--","pool_lv":"data"},
>  {"lv_name":"snap_vm-100-disk-0_x_one","lv_size":"4194304","lv_attr":"Vri---tz-k","pool_lv":"data","origin":"vm-100-disk-0_x"}]}]}
`

func TestThinCommands(t *testing.T) {
	script := hosttest.New(t, lvsOf+`
$ lvcreate -aly --virtualsize 1025k --name vm-100-disk-1 --addtag pve-vm-100 --thinpool vg/data
$ lvcreate --name snap_vm-100-disk-0_two --permission r --snapshot vg/vm-100-disk-0
$ lvcreate --setactivationskip n --permission rw --name roll_vm-100-disk-0 --addtag pve-vm-100 --snapshot vg/snap_vm-100-disk-0_one
$ lvremove -f vg/vm-100-disk-0
$ lvrename vg roll_vm-100-disk-0 vm-100-disk-0
`+lvsOf+`
$ lvcreate --setactivationskip n --permission rw --name vm-101-disk-0 --addtag pve-vm-101 --snapshot vg/snap_vm-100-disk-0_one
`+lvsOf+`
$ lvremove -f vg/snap_vm-100-disk-0_one
$ lvremove -f vg/vm-100-disk-0
`)
	p, c := lvm.NewThin(script), config("lvmthin", "thinpool", "data")
	v, err := p.Parse("vm-100-disk-0")
	if err != nil {
		t.Fatal(err)
	}
	name, err := p.Alloc(t.Context(), c, storage.Request{VMID: 100, Bytes: 1<<20 + 1})
	if err != nil || name != "vm-100-disk-1" {
		t.Errorf("%s, %v", name, err)
	}
	clone := ""
	for what, err := range map[string]error{
		"snapshot": p.Snapshot(t.Context(), c, v, "two"),
		"rollback": p.Rollback(t.Context(), c, v, "one"),
		"clone": func() (err error) {
			clone, err = p.Clone(t.Context(), c, v, 101, "one")
			return err
		}(),
		"free": p.Free(t.Context(), c, v),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if clone != "vm-101-disk-0" {
		t.Error(clone)
	}
}

func TestRollbackThatFailsKeepsTheVolume(t *testing.T) {
	script := hosttest.New(t, `
$ lvcreate --setactivationskip n --permission rw --name roll_vm-100-disk-0 --addtag pve-vm-100 --snapshot vg/snap_vm-100-disk-0_one
! pool is full
= 5
`)
	p := lvm.NewThin(script)
	v, err := p.Parse("vm-100-disk-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Rollback(t.Context(), config("lvmthin"), v, "one"); err == nil {
		t.Error("no error")
	}
}

func TestContentIsWipedWhereAsked(t *testing.T) {
	const before = `$ lvs --reportformat json --units b --nosuffix --config 'report/time_format="%s"' --options lv_name,lv_size,lv_attr,pool_lv,origin,data_percent,lv_tags,lv_time vg
> {"report":[{"lv":[{"lv_name":"vm-100-disk-0","lv_size":"4194304","lv_attr":"-wi-a-----"}]}]}
$ lvrename vg vm-100-disk-0 del-vm-100-disk-0
$ lvchange -aly vg/del-vm-100-disk-0
`
	for name, c := range map[string]struct {
		config *storage.Config
		wipe   string
	}{
		"in steps":  {config("lvm", "saferemove", "1", "saferemove-stepsize", "8"), "blkdiscard --zeroout --step 8M /dev/vg/del-vm-100-disk-0"},
		"throttled": {config("lvm", "saferemove", "1", "saferemove_throughput", "-10485760"), "cstream -i /dev/zero -o /dev/vg/del-vm-100-disk-0 -T 10 -v 1 -b 1048576 -t -10485760"},
	} {
		t.Run(name, func(t *testing.T) {
			p := lvm.New(hosttest.New(t, before+"$ "+c.wipe+"\n$ lvremove -f vg/del-vm-100-disk-0\n"))
			v, err := p.Parse("vm-100-disk-0")
			if err == nil {
				err = p.Free(t.Context(), c.config, v)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOnlyGuestsVolumesAreListed(t *testing.T) {
	script := hosttest.New(t, lvsOf+lvsOf)
	thin, err := lvm.NewThin(script).List(t.Context(), config("lvmthin", "thinpool", "data"), storage.Query{Content: storage.Images})
	if err != nil || len(thin) != 2 || thin[0].Name != "vm-100-disk-0" || thin[1].Name != "vm-100-disk-0_x" {
		t.Errorf("thin: %+v, %v", thin, err)
	}
	thick, err := lvm.New(script).List(t.Context(), config("lvm"), storage.Query{Content: storage.Images})
	if err != nil || len(thick) != 0 {
		t.Errorf("thick: %+v, %v", thick, err)
	}
}

// TestStepsOfALogicalVolume plays what a volume goes through, as data.
func TestStepsOfALogicalVolume(t *testing.T) {
	var steps []storagetest.Step
	if err := json.Unmarshal([]byte(`[
{"call": "vdisk_alloc", "vmid": 300, "format": "raw", "size_kib": 1048576, "expected": "thick:vm-300-disk-0", "logical_volume_size": "1.00g"},
{"call": "vdisk_alloc", "vmid": 300, "format": "qcow2", "size_kib": 1048576, "must_fail": true},
{"call": "vdisk_alloc", "vmid": 300, "format": "raw", "name": "vm-300-disk-7", "size_kib": 3145728, "expected": "thick:vm-300-disk-7", "logical_volume_size": "3.00g"},
{"call": "vdisk_alloc", "vmid": 301, "format": "raw", "name": "vm-300-disk-8", "size_kib": 1048576, "must_fail": true},
{"call": "volume_resize", "volid": "thick:vm-300-disk-0", "size": 2147483648, "expected": true, "logical_volume_size": "2.00g"},
{"call": "volume_size_info", "volid": "thick:vm-300-disk-0", "expected": "2147483648"},
{"call": "volume_resize", "volid": "thick:vm-300-disk-0", "size": 1073741824, "must_fail": true},
{"call": "parse_volname", "volid": "thick:vm-300-disk-0", "expected": {"vtype": "images", "name": "vm-300-disk-0", "vmid": 300, "basename": null, "basevmid": null, "is_base": null, "format": "raw"}},
{"call": "volume_snapshot", "volid": "thick:vm-300-disk-0", "snapname": "one", "must_fail": true},
{"call": "vdisk_create_base", "volid": "thick:vm-300-disk-0", "must_fail": true},
{"call": "activate_volumes", "volids": ["thick:vm-300-disk-0", "thick:vm-300-disk-7"]},
{"call": "deactivate_volumes", "volids": ["thick:vm-300-disk-0"]},
{"call": "vdisk_list", "vmid": 300, "volids": ["thick:vm-300-disk-7"], "expected": {"thick": [{"volid": "thick:vm-300-disk-7", "format": "raw", "size": 3221225472}]}},
{"call": "vdisk_free", "volid": "thick:vm-300-disk-0"},
{"call": "vdisk_free", "volid": "thick:vm-300-disk-0", "must_fail": true},
{"call": "deactivate_storage"}]`), &steps); err != nil {
		t.Fatal(err)
	}
	m := newMachine("vg")
	play := storagetest.Play{Plugin: lvm.New(m), Machine: m, Dataset: func(file string) string { return file },
		Config: &storage.Config{ID: "thick", Type: "lvm", Values: map[string]string{"vgname": "vg"}}}
	for _, step := range steps {
		play.Do(t, step)
	}
}
