package zfspool_test

import (
	"encoding/json"
	"testing"

	"etcpve/agents/host/hosttest"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/plugins/storage/zfspool"
	"etcpve/plugins/storage/zfspool/zfspooltest"
)

func config(settings ...string) *storage.Config {
	c := &storage.Config{ID: "tank", Type: "zfspool", Values: map[string]string{"pool": "tank/vms"}}
	for i := 0; i < len(settings); i += 2 {
		c.Values[settings[i]] = settings[i+1]
	}
	return c
}

func TestConforms(t *testing.T) {
	for _, format := range []string{"raw", "subvol"} {
		t.Run(format, func(t *testing.T) {
			m := zfspooltest.New("tank/vms")
			storagetest.Run(t, storagetest.Subject{Plugin: zfspool.New(m), Config: config(), Format: format, Limit: true,
				Write: m.Write, Read: m.Read, How: "simulated commands"})
		})
	}
}

const listing = "$ zfs list -Hp -d 1 -t volume,filesystem -o name,volsize,refquota,used,origin,creation tank/vms\n"

func TestCommands(t *testing.T) {
	script := hosttest.New(t, `
$ zpool list -H -o name tank
! cannot open 'tank': no such pool
= 1
$ zpool import -d /dev/disk/by-id/ -o cachefile=none tank
$ zfs mount -a
`+listing+`
$ zfs create -s -b 16k -V 2048k tank/vms/vm-100-disk-0
`+listing+`
$ zfs create -o acltype=posixacl -o xattr=sa -o refquota=none tank/vms/subvol-101-disk-0
$ zfs rename tank/vms/vm-100-disk-0 tank/vms/base-100-disk-0
$ zfs snapshot tank/vms/base-100-disk-0@__base__
! out of space
= 1
$ zfs rename tank/vms/base-100-disk-0 tank/vms/vm-100-disk-0
$ zfs send -Rpv -I one -- tank/vms/vm-100-disk-0@two
`)
	p, c := zfspool.New(script), config("sparse", "1", "blocksize", "16k")
	if err := p.Activate(t.Context(), c); err != nil {
		t.Error(err)
	}
	name, err := p.Alloc(t.Context(), c, storage.Request{VMID: 100, Bytes: 1<<20 + 1})
	if err != nil || name != "vm-100-disk-0" {
		t.Errorf("%s, %v", name, err)
	}
	if name, err = p.Alloc(t.Context(), c, storage.Request{VMID: 101, Format: "subvol"}); err != nil || name != "subvol-101-disk-0" {
		t.Errorf("%s, %v", name, err)
	}
	v, err := p.Parse("vm-100-disk-0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreateBase(t.Context(), c, v); err == nil {
		t.Error("a base without its snapshot")
	}
	if err := p.Export(t.Context(), c, v, storage.Stream{Format: "zfs", Snapshot: "two", Base: "one", Snapshots: true}, t.Output()); err != nil {
		t.Error(err)
	}
}

func TestForeignDataSetsAreNotListed(t *testing.T) {
	script := hosttest.New(t, listing+
		"> tank/vms\t-\t0\t1\t-\t1\n> tank/vms/home\t-\t0\t1\t-\t1\n> tank/vms/vm-100-disk-0\t1048576\t-\t1\t-\t7\n"+
		"> tank/vms/vm-101-disk-0\t1048576\t-\t1\ttank/vms/base-9-disk-0@__base__\t7\n")
	all, err := zfspool.New(script).List(t.Context(), config(), storage.Query{Content: storage.Images})
	if err != nil || len(all) != 2 || all[0].Name != "base-9-disk-0/vm-101-disk-0" || all[1].Name != "vm-100-disk-0" || all[1].Created != 7 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestStepsOfAGuestsVolumes plays what a guest's volumes go through, as data.
func TestStepsOfAGuestsVolumes(t *testing.T) {
	var steps []storagetest.Step
	if err := json.Unmarshal([]byte(`[
{"call": "vdisk_alloc", "vmid": 300, "format": "raw", "size_kib": 2048, "expected": "tank:vm-300-disk-0", "volsize": "2M"},
{"call": "activate_volumes", "volids": ["tank:vm-300-disk-0"]},
{"call": "volume_resize", "volid": "tank:vm-300-disk-0", "size": 4194304, "expected": 1, "expected_kib": 4096, "volsize": "4M"},
{"call": "volume_has_feature", "volid": "tank:vm-300-disk-0", "feature": "snapshot", "expected": 1},
{"call": "volume_has_feature", "volid": "tank:vm-300-disk-0", "feature": "snapshot", "snapname": "one", "expected": 1},
{"call": "volume_has_feature", "volid": "tank:vm-300-disk-0", "feature": "clone", "expected": null},
{"call": "volume_rollback_is_possible", "volid": "tank:vm-300-disk-0", "snapname": "one", "must_fail": true},
{"call": "volume_snapshot", "volid": "tank:vm-300-disk-0", "snapname": "one", "dataset_exists_afterwards": "tank/vms/vm-300-disk-0@one"},
{"call": "volume_rollback_is_possible", "volid": "tank:vm-300-disk-0", "snapname": "one", "expected": true},
{"call": "volume_snapshot", "volid": "tank:vm-300-disk-0", "snapname": "two"},
{"call": "volume_snapshot", "volid": "tank:vm-300-disk-0", "snapname": "three"},
{"call": "volume_rollback_is_possible", "volid": "tank:vm-300-disk-0", "snapname": "one", "must_fail": true, "blockers": ["two", "three"]},
{"call": "vdisk_create_base", "volid": "tank:vm-300-disk-0", "expected": "tank:base-300-disk-0", "dataset_exists_afterwards": "tank/vms/base-300-disk-0@__base__"},
{"call": "vdisk_create_base", "volid": "tank:base-300-disk-0", "must_fail": true},
{"call": "volume_is_base_and_used", "volid": "tank:base-300-disk-0", "expected": false},
{"call": "vdisk_clone", "volid": "tank:base-300-disk-0", "vmid": 301, "expected": "tank:base-300-disk-0/vm-301-disk-0"},
{"call": "volume_is_base_and_used", "volid": "tank:base-300-disk-0", "expected": true},
{"call": "vdisk_create_base", "volid": "tank:base-300-disk-0/vm-301-disk-0", "expected": "tank:base-300-disk-0/base-301-disk-0"},
{"call": "vdisk_clone", "volid": "tank:base-300-disk-0/base-301-disk-0", "vmid": 302, "expected": "tank:base-301-disk-0/vm-302-disk-0"},
{"call": "vdisk_list", "vmid": 302, "expected": {"tank": [{"volid": "tank:base-301-disk-0/vm-302-disk-0", "vmid": "302", "size": 4194304, "parent": "base-301-disk-0@__base__"}]}},
{"call": "vdisk_list", "vmid": 999, "expected": {}},
{"call": "vdisk_free", "volid": "tank:base-300-disk-0/base-301-disk-0", "must_fail": true},
{"call": "rename_volume", "volid": "tank:base-301-disk-0/vm-302-disk-0", "target_vmid": 303, "expected": "tank:base-301-disk-0/vm-303-disk-0"},
{"call": "deactivate_volumes", "volids": ["tank:base-301-disk-0/vm-303-disk-0"]},
{"call": "no such name", "volid": "tank:disk-1", "must_fail": true}]`), &steps); err != nil {
		t.Fatal(err)
	}
	m := zfspooltest.New("tank/vms")
	play := storagetest.Play{Plugin: zfspool.New(m), Machine: m, Config: config(), Dataset: func(file string) string { return "tank/vms/" + file }}
	for _, step := range steps {
		play.Do(t, step)
	}
}
