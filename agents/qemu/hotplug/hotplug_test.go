package hotplug

import (
	"slices"
	"strings"
	"testing"

	"etcpve/agents/qemu/cmdline"
)

// config reads "key: value" lines.
func config(lines ...string) cmdline.Config {
	c := cmdline.Config{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		c[key] = value
	}
	return c
}

func TestPlan(t *testing.T) {
	base := []string{"scsihw: virtio-scsi-pci", "memory: 512", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0", "scsi0: local:100/a.raw,size=1G"}
	with := func(lines ...string) cmdline.Config { return config(append(slices.Clone(base), lines...)...) }
	for _, c := range []struct {
		name             string
		running, desired cmdline.Config
		live             Live
		want             []string // actions, then pending as "key: reason"
	}{
		{name: "content", running: with(), desired: with()},
		{name: "add a disk", running: with(), desired: with("scsi1: local:100/b.raw"), want: []string{"hot-plug disk scsi1"}},
		{name: "remove a disk", running: with("virtio1: local:100/b.raw"), desired: with(), want: []string{"hot-unplug disk virtio1"}},
		{name: "guest holds a disk", running: with("virtio1: local:100/b.raw"), desired: with(),
			live: Live{Releasing: map[string]bool{"virtio1": true}, Devices: map[string]bool{"virtio1": true}},
			want: []string{"virtio1: waits for the guest to release the device"}},
		{name: "guest gave a disk up", running: with("virtio1: local:100/b.raw"), desired: with(),
			live: Live{Releasing: map[string]bool{"virtio1": true}}, want: []string{"hot-unplug disk virtio1"}},
		{name: "another volume", running: with("scsi1: local:100/b.raw"), desired: with("scsi1: local:100/c.raw"), want: []string{"hot-unplug disk scsi1"}},
		{name: "ide", running: with(), desired: with("ide0: local:100/b.raw"), want: []string{"ide0: needs restart, IDE drives cannot be hot-plugged"}},
		{name: "lsi", running: config(), desired: config("scsi1: local:100/b.raw"), want: []string{"scsi1: needs restart, scsihw is not virtio-scsi"}},
		{name: "no disk class", running: with("hotplug: network"), desired: with("hotplug: network", "scsi1: local:100/b.raw"),
			want: []string{"scsi1: needs restart, hotplug does not include disk"}},
		{name: "throttle", running: with("scsi1: local:100/b.raw"), desired: with("scsi1: local:100/b.raw,iops_rd=100,mbps=2"), want: []string{"throttle scsi1"}},
		{name: "size", running: with("scsi1: local:100/b.raw,size=1G"), desired: with("scsi1: local:100/b.raw,size=2G"),
			want: []string{"take over scsi1: local:100/b.raw,size=2G"}},
		{name: "cache", running: with("scsi1: local:100/b.raw"), desired: with("scsi1: local:100/b.raw,cache=unsafe"), want: []string{"scsi1: cache: needs restart"}},
		{name: "cd", running: with("ide2: none,media=cdrom"), desired: with("ide2: local:iso/a.iso,media=cdrom"),
			want: []string{"change medium of ide2: local:iso/a.iso,media=cdrom"}},
		{name: "nic", running: with(), desired: with("net1: e1000=BC:24:11:00:00:02,bridge=vmbr0"), want: []string{"hot-plug NIC net1"}},
		{name: "no nic", running: with("net1: virtio=BC:24:11:00:00:02"), desired: with(), want: []string{"hot-unplug NIC net1"}},
		{name: "no network class", running: with("hotplug: 0"), desired: with("hotplug: 0", "net1: virtio"),
			want: []string{"net1: needs restart, hotplug does not include network"}},
		{name: "link", running: with(), desired: with("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1"),
			want: []string{"set link of net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1"}},
		{name: "bridge", running: with(), desired: with("net0: virtio=BC:24:11:00:00:01,bridge=vmbr1,tag=5"),
			want: []string{"move port of net0: virtio=BC:24:11:00:00:01,bridge=vmbr1,tag=5"}},
		{name: "mac", running: with(), desired: with("net0: virtio=BC:24:11:00:00:09,bridge=vmbr0"), want: []string{"hot-unplug NIC net0"}},
		{name: "balloon", running: with(), desired: with("balloon: 256"), want: []string{"take over balloon: 256", "set balloon to 256 MiB"}},
		{name: "balloon stays", running: with("balloon: 256"), desired: with("balloon: 256"), live: Live{Balloon: 256}},
		{name: "balloon gone", running: with("balloon: 256"), desired: with(), live: Live{Balloon: 256}, want: []string{"drop balloon", "set balloon to 512 MiB"}},
		{name: "balloon off", running: with(), desired: with("balloon: 0"), want: []string{"balloon: needs restart"}},
		{name: "cores", running: with(), desired: with("cores: 2"), want: []string{"cores: needs restart"}},
		{name: "disk on the move", running: with("scsi1: local:a"), desired: with("scsi1: other:a"), live: Live{Moving: []string{"scsi1"}},
			want: []string{"scsi1: a task exchanges its volume"}},
		{name: "name", running: with(), desired: with("name: web"), want: []string{"take over name: web"}},
		{name: "more cpus", running: config("cores: 4", "vcpus: 2", "hotplug: cpu"), desired: config("cores: 4", "vcpus: 3", "hotplug: cpu"),
			live: Live{Devices: map[string]bool{"cpu2": true}}, want: []string{"set number of CPUs to 3"}},
		{name: "all cpus", running: config("cores: 4", "vcpus: 2", "hotplug: cpu"), desired: config("cores: 4", "hotplug: cpu"),
			live: Live{Devices: map[string]bool{"cpu2": true}}, want: []string{"set number of CPUs to default"}},
		{name: "fewer cpus, asked", running: config("cores: 4", "vcpus: 3", "hotplug: cpu"), desired: config("cores: 4", "vcpus: 2", "hotplug: cpu"),
			live: Live{Devices: map[string]bool{"cpu2": true, "cpu3": true}, Releasing: map[string]bool{"cpu3": true}}, want: []string{"vcpus: waits for the guest to release the CPUs"}},
		{name: "no cpu class", running: config("cores: 4", "vcpus: 2"), desired: config("cores: 4", "vcpus: 3"),
			want: []string{"vcpus: needs restart, hotplug does not include cpu"}},
		{name: "all cpus were fixed", running: config("cores: 4", "hotplug: cpu"), desired: config("cores: 4", "vcpus: 3", "hotplug: cpu"),
			want: []string{"vcpus: needs restart"}},
		{name: "more memory", running: config("memory: 1024", "numa: 1", "hotplug: memory"), desired: config("memory: 2048", "numa: 1", "hotplug: memory"),
			live: Live{Balloon: 1024}, want: []string{"set memory to 2048"}},
		{name: "less memory", running: config("memory: 2048", "numa: 1", "hotplug: memory"), desired: config("memory: 1024", "numa: 1", "hotplug: memory"),
			want: []string{"set memory to 1024"}},
		{name: "less memory, asked", running: config("memory: 2048", "numa: 1", "hotplug: memory"), desired: config("memory: 1024", "numa: 1", "hotplug: memory"),
			live: Live{Devices: map[string]bool{"dimm1": true}, Releasing: map[string]bool{"dimm1": true}}, want: []string{"memory: waits for the guest to release the memory"}},
		{name: "too little memory", running: config("memory: 2048", "numa: 1", "hotplug: memory"), desired: config("memory: 512", "numa: 1", "hotplug: memory"),
			want: []string{"memory: needs restart, 1024 MiB are not hot-pluggable"}},
		{name: "usb", running: with(), desired: with("usb0: spice"), live: Live{Devices: map[string]bool{"spice": true, "ehci": true}}, want: []string{"hot-plug USB device usb0"}},
		{name: "usb without SPICE", running: with(), desired: with("usb0: spice"), want: []string{"usb0: needs restart, the machine has no SPICE server"}},
		{name: "usb 2 without its controller", running: with(), desired: with("usb0: host=1-2"), want: []string{"usb0: needs restart, the machine has no USB 2 controller"}},
		{name: "usb 3", running: with(), desired: with("usb0: host=1-2,usb3=1"), want: []string{"hot-plug USB device usb0"}},
		{name: "another usb device", running: with("usb0: host=1-2"), desired: with("usb0: host=1-3"), want: []string{"hot-unplug USB device usb0"}},
		{name: "no usb class", running: with("hotplug: disk"), desired: with("hotplug: disk", "usb0: host=1-2", "tablet: 0"),
			want: []string{"tablet: needs restart, hotplug does not include usb", "usb0: needs restart, hotplug does not include usb"}},
		{name: "tablet", running: with(), desired: with("tablet: 0"), want: []string{"set tablet to 0"}},
		{name: "aarch64", running: config("arch: aarch64"), desired: config("arch: aarch64", "net0: virtio", "net6: virtio", "virtio1: local:1/a.raw"), want: []string{
			"hot-plug NIC net6", "net0: needs restart, the first bus of an aarch64 machine is fixed", "virtio1: needs restart, the first bus of an aarch64 machine is fixed"}},
		{name: "cloud-init", running: with("ide2: local:vm-1-cloudinit,media=cdrom", "hotplug: cloudinit"), desired: with("ide2: local:vm-1-cloudinit,media=cdrom", "hotplug: cloudinit", "ciuser: a", "nameserver: b"),
			want: []string{"make cloud-init drive"}},
		{name: "no cloud-init class", running: with("ide2: local:vm-1-cloudinit,media=cdrom"), desired: with("ide2: local:vm-1-cloudinit,media=cdrom", "ciuser: a"),
			want: []string{"ciuser: the cloud-init drive is made anew at the next start"}},
		{name: "no cloud-init drive", running: with(), desired: with("ciuser: a"), want: []string{"take over ciuser: a"}},
		{name: "snapshot", running: with(), desired: with("scsi1: local:1/b.raw,snapshot=1"), want: []string{"scsi1: needs restart, snapshot is only made at start"}},
		{name: "boot order", running: with(), desired: with("boot: order=net0"), want: []string{"set boot order"}},
		{name: "share of CPUs", running: with(), desired: with("cpulimit: 0.5"), want: []string{"set share of the node's CPUs, cpulimit: 0.5"}},
		{name: "agent's own options", running: with("agent: 1"), desired: with("agent: 1,fstrim_cloned_disks=1"), want: []string{"take over agent: 1,fstrim_cloned_disks=1"}},
		{name: "agent", running: with(), desired: with("agent: 1"), want: []string{"agent: needs restart"}},
		{name: "no memory class", running: config("memory: 1024"), desired: config("memory: 2048"),
			want: []string{"memory: needs restart, hotplug does not include memory"}},
		{name: "unplug before plug", running: with("virtio1: local:100/b.raw"), desired: with("scsi1: local:100/b.raw"),
			want: []string{"hot-unplug disk virtio1", "hot-plug disk scsi1"}},
	} {
		actions, pending := Plan(c.running, c.desired, c.live)
		var got []string
		for _, a := range actions {
			got = append(got, a.String())
		}
		for _, p := range pending {
			got = append(got, p.Key+": "+p.Reason)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
