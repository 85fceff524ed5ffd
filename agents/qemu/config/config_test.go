package config

import (
	"errors"
	"reflect"
	"testing"
)

func TestSizes(t *testing.T) {
	c := Config{"sockets": "2", "cores": "3", "vcpus": "4", "memory": "current=2048", "hotplug": "1", "numa": "1"}
	top, err := c.Topology()
	if err != nil || top != (Topology{2, 3, 4}) {
		t.Errorf("%+v, %v", top, err)
	}
	if mb, err := c.MemoryMB(); mb != 2048 || err != nil {
		t.Errorf("%d MiB, %v", mb, err)
	}
	nodes, err := c.NUMANodes(2048, top)
	want := []NUMANode{{CPUs: []string{"0-2"}, Size: 1024}, {CPUs: []string{"3-5"}, Size: 1024}}
	if err != nil || !reflect.DeepEqual(nodes, want) {
		t.Errorf("%+v, %v", nodes, err)
	}
	c["numa0"], c["numa1"] = "cpus=0-1;5,memory=1500,hostnodes=0;2,policy=bind", "cpus=2,memory=548"
	nodes, err = c.NUMANodes(2048, top)
	want = []NUMANode{{[]string{"0-1", "5"}, 1500, "0,2", "bind"}, {CPUs: []string{"2"}, Size: 548, Policy: "preferred"}}
	if err != nil || !reflect.DeepEqual(nodes, want) {
		t.Errorf("%+v, %v", nodes, err)
	}
	for key, c := range map[string]Config{
		"cores": {"cores": "0"}, "vcpus": {"cores": "2", "vcpus": "3"}, "memory": {"memory": "8"}, "hugepages": {"hugepages": "2"},
	} {
		_, err1 := c.Topology()
		_, err2 := c.MemoryMB()
		_, err3 := c.HugePageMB()
		var about *KeyError
		if !errors.As(errors.Join(err1, err2, err3), &about) || about.Key != key {
			t.Errorf("%v: %v", c, about)
		}
	}
}

func TestHotplugHasADefaultAndCanBeOff(t *testing.T) {
	for value, want := range map[string]int{"": 3, "1": 3, "0": 0, "cpu": 1, "network,disk;usb memory": 4} {
		if got := (Config{"hotplug": value}).Hotplug(); len(got) != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
