package cmdline_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/qemu/cmdline"
)

// plain is a host with a bridge of MTU 1500, volumes below /v and no KVM.
func plain() (cmdline.Host, func(string) (cmdline.Volume, error)) {
	host := cmdline.Host{
		Binary: "qemu", QEMU: cmdline.Version{Major: 7, Minor: 2}, RunDir: "/run/q", Firmware: "/fw",
		Bridge: func(name string) (int, bool) { return 1500, name == "vmbr0" },
		Models: map[string]cmdline.Options{"mine": {"reported-model": "Haswell", "flags": "+avx2"}},
		Functions: func(address string) []string {
			return []string{address + ".0", address + ".1"}
		},
		Scratch: "/run/q",
		USB: func(name string) (string, error) {
			if name == "stick" {
				return "0951:1666", nil
			}
			return "", errors.New("no such mapping")
		},
		PCI: func(name string) ([]cmdline.PCIDevice, error) {
			if name == "gpus" {
				return []cmdline.PCIDevice{{Address: "0000:01:00.4", Mediated: true}, {Address: "0000:01:00.5", Mediated: true}}, nil
			}
			return nil, errors.New("no such mapping")
		},
		Directory: func(name string) (string, error) {
			if name == "share" {
				return "/srv/share", nil
			}
			return "", errors.New("no such mapping")
		},
	}
	return host, func(id string) (cmdline.Volume, error) {
		if strings.Contains(id, "missing") {
			return cmdline.Volume{}, errors.New("no such volume")
		}
		v := cmdline.Volume{Path: "/v/" + filepath.Base(id), Format: "raw", Device: strings.HasPrefix(id, "/dev/")}
		if strings.HasSuffix(id, ".qcow2") {
			v.Format = "qcow2"
		}
		return v, nil
	}
}

func build(host cmdline.Host, volume func(string) (cmdline.Volume, error), config string) (cmdline.Command, error) {
	return cmdline.Build(cmdline.Guest{VMID: 100, Config: mainSection(config), Volume: volume}, host)
}

func TestBuild(t *testing.T) {
	for _, c := range []struct {
		name, config string
		want         []string // option and its argument, each somewhere in the command line
		never        []string
	}{
		{name: "defaults", want: []string{
			"-name vm100,debug-threads=on", "-smp 1,sockets=1,cores=1,maxcpus=1", "-m 512", "-machine accel=tcg,type=pc",
			"-chardev socket,id=qmp,path=/run/q/100.qmp,server=on,wait=off", "-pidfile /run/q/100.pid",
			"-device VGA,id=vga,bus=pci.0,addr=0x2", "-device usb-tablet,id=tablet,bus=uhci.0,port=1",
			"-device virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3,free-page-reporting=on",
		}},
		{name: "nothing to see", config: "vga: none\ntablet: 0\nballoon: 0", never: []string{"VGA", "usb-tablet", "balloon", "-vnc"}},
		{name: "names with commas", config: "name: a,b", want: []string{"-name a,,b,debug-threads=on"}},
		{name: "cpus", config: "sockets: 2\ncores: 3\nvcpus: 4", want: []string{"-smp 4,sockets=2,cores=3,maxcpus=6"}},
		{name: "hot cpus", config: "cores: 4\nvcpus: 2\nhotplug: cpu",
			want: []string{"-smp 1,sockets=1,cores=4,maxcpus=4", "-device kvm64-x86_64-cpu,id=cpu2,socket-id=0,core-id=1,thread-id=0"}},
		{name: "cpu level", config: "cpu: x86-64-v2-AES", want: []string{"-cpu qemu64,+aes,+pni,+popcnt,+sse4.1,+sse4.2,+ssse3"}},
		{name: "own model", config: "cpu: custom-mine,flags=+aes;-avx2", want: []string{"-cpu Haswell,+aes,-avx2"}},
		{name: "host cpu without KVM", config: "cpu: host,flags=+hv-evmcs", want: []string{"-cpu max"}},
		{name: "scsi", config: "scsihw: virtio-scsi-pci\nscsi3: local:100/a.qcow2,discard=on,cache=writethrough,iops_rd=9", want: []string{
			"-device virtio-scsi-pci,id=scsihw0,bus=pci.0,addr=0x5",
			"-device scsi-hd,bus=scsihw0.0,channel=0,scsi-id=0,lun=3,drive=drive-scsi3,id=scsi3,device_id=drive-scsi3,write-cache=off",
			`-object {"id":"throttle-drive-scsi3","limits":{"iops-read":9},"qom-type":"throttle-group"}`,
		}},
		{name: "one controller for each disk", config: "scsihw: virtio-scsi-single\nscsi2: local:100/a.raw,iothread=1", want: []string{
			"-object iothread,id=iothread-virtioscsi2", "-device pci-bridge,id=pci.3,chassis_nr=3,bus=pci.0,addr=0x5",
			"-device virtio-scsi-pci,id=virtioscsi2,bus=pci.3,addr=0x3,iothread=iothread-virtioscsi2",
		}},
		{name: "lsi takes seven", config: "scsi8: local:100/a.raw", want: []string{"-device lsi,id=scsihw1,bus=pci.0,addr=0x6",
			"-device scsi-hd,bus=scsihw1.0,scsi-id=1,drive=drive-scsi8,id=scsi8,device_id=drive-scsi8,write-cache=on"}},
		{name: "virtio beyond the first bus", config: "virtio7: /dev/sdx,serial=a%20b", want: []string{
			"-device virtio-blk-pci,drive=drive-virtio7,id=virtio7,bus=pci.2,addr=0x2,serial=a b,write-cache=on"}},
		{name: "sata", config: "sata2: local:100/a.raw,ssd=1", want: []string{"-device ahci,id=ahci0,multifunction=on,bus=pci.0,addr=0x7",
			"-device ide-hd,bus=ahci0.2,drive=drive-sata2,id=sata2,rotation_rate=1,write-cache=on"}},
		{name: "four ide drives of a q35", config: "machine: q35\nide0: none,media=cdrom\nide1: none,media=cdrom\nide2: none,media=cdrom\nide3: none,media=cdrom",
			want: []string{"-device ide-cd,bus=ide.0,unit=0,id=ide0,bootindex=200", "-device ide-cd,bus=ide.2,unit=0,id=ide1,bootindex=201",
				"-device ide-cd,bus=ide.1,unit=0,id=ide2,bootindex=202", "-device ide-cd,bus=ide.3,unit=0,id=ide3,bootindex=203"}},
		{name: "boot order", config: "boot: order=net0;ide2\nide2: none,media=cdrom\nnet0: e1000=BC:24:11:00:00:01,bridge=vmbr0", want: []string{
			"-device e1000,netdev=net0,bus=pci.0,addr=0x12,id=net0,mac=BC:24:11:00:00:01,bootindex=100",
			"-device ide-cd,bus=ide.1,unit=0,id=ide2,bootindex=101", "-netdev tap,id=net0,ifname=tap100i0,script=no,downscript=no"}},
		{name: "nic without a bridge", config: "net9: virtio=BC:24:11:00:00:01", want: []string{"-netdev user,id=net9,hostname=vm100",
			"-device virtio-net-pci,netdev=net9,bus=pci.1,addr=0x4,id=net9,mac=BC:24:11:00:00:01,rx_queue_size=1024,tx_queue_size=256,bootindex=300"}},
		{name: "queues", config: "net0: virtio,bridge=vmbr0,queues=4,mtu=1", want: []string{"-netdev tap,id=net0,ifname=tap100i0,script=no,downscript=no,queues=4",
			"-device virtio-net-pci,netdev=net0,bus=pci.0,addr=0x12,id=net0,vectors=10,mq=on,packed=on,rx_queue_size=1024,tx_queue_size=256,host_mtu=1500,bootindex=300"}},
		{name: "hot memory", config: "numa: 1\nsockets: 2\nmemory: 2048\nhotplug: memory", want: []string{"-m size=1024,slots=255,maxmem=524288M",
			"-numa node,nodeid=1,cpus=1,memdev=ram-node1", "-device pc-dimm,id=dimm1,memdev=mem-dimm1,node=1"}},
		{name: "numa nodes", config: "numa: 1\ncores: 4\nmemory: 512\nnuma0: cpus=0-1;3,memory=384,hostnodes=0\nnuma1: cpus=2,memory=128", want: []string{
			"-object memory-backend-ram,id=ram-node0,size=384M,host-nodes=0,policy=preferred", "-numa node,nodeid=0,cpus=0-1,cpus=3,memdev=ram-node0"}},
		{name: "smbios", config: "smbios1: uuid=7b10d7af-b932-4c66-b2c3-3996152ec465,base64=1,serial=YSxi",
			want: []string{"-smbios type=1,uuid=7b10d7af-b932-4c66-b2c3-3996152ec465,serial=a,,b"}},
		{name: "uefi", config: "bios: ovmf", want: []string{"-machine pflash0=pflash0,pflash1=drive-efidisk0,accel=tcg,type=pc",
			`-blockdev {"driver":"raw","file":{"driver":"file","filename":"/fw/OVMF_CODE.fd"},"node-name":"pflash0","read-only":true}`}},
		{name: "pinned", config: "machine: pc-q35-6.1", want: []string{"-machine accel=tcg,type=pc-q35-6.1"}, never: []string{"disable_s3"}},
		{name: "from the future", config: "machine: pc-i440fx-10.0", want: []string{"-machine accel=tcg,type=pc-i440fx-7.2"}},
		{name: "windows", config: "ostype: win10", want: []string{"-machine accel=tcg,hpet=off,type=pc-i440fx-5.1", "-rtc driftfix=slew,base=localtime",
			"-device VGA,id=vga,edid=off,bus=pci.0,addr=0x2"}},
		{name: "all the small things", config: "serial0: socket\nparallel0: /dev/parport0\nwatchdog: i6300esb,action=reset\nrng0: /dev/urandom\nagent: 1\naudio0: device=AC97\nivshmem: size=4",
			want: []string{"-device isa-serial,chardev=serial0", "-device i6300esb,id=watchdog0,bus=pci.0,addr=0x4", "-action watchdog=reset",
				"-device virtio-rng-pci,rng=rng0,id=rng0,max-bytes=1024,period=1000,bus=pci.1,addr=0x1d", "-device virtio-serial,id=qga0,bus=pci.0,addr=0x8",
				"-device AC97,id=audiodev0,audiodev=audiobackend0,bus=pci.2,addr=0xc", "-device ivshmem-plain,id=ivshmem0,memdev=ivshmem0,bus=pci.2,addr=0xb"}},
		{name: "passed through", config: "machine: q35\nhostpci0: 01:00,pcie=1,x-vga=1\nhostpci5: 0000:02:00.1,pcie=1,rombar=0", want: []string{
			"-device vfio-pci,host=0000:01:00.0,id=hostpci0.0,bus=ich9-pcie-port-1,addr=0x0.0,multifunction=on,x-vga=on",
			"-device vfio-pci,host=0000:02:00.1,id=hostpci5,bus=ich9-pcie-port-6,addr=0x0,rombar=0"}},
		{name: "template", config: "template: 1\nhostpci0: 01:00\nmemory: 9999\nscsi0: local:100/base.raw", want: []string{"-snapshot", "-cpu qemu64", "-m 512"},
			never: []string{"vfio"}},
		{name: "a pointer of its own", config: "vga: qxl", never: []string{"usb-tablet"}},
		{name: "two pointers", config: "vga: qxl\ntablet: 1", want: []string{"-device usb-tablet,id=tablet,bus=uhci.0,port=1"}},
		{name: "mapped devices", config: "hostpci0: mapping=gpus\nhostpci1: mapping=gpus\nhostpci2: mapping=gpus,mdev=nvidia-1\nusb0: mapping=stick", want: []string{
			"-device vfio-pci,host=0000:01:00.4,id=hostpci0,bus=pci.0,addr=0x10", "-device vfio-pci,host=0000:01:00.5,id=hostpci1,bus=pci.0,addr=0x11",
			"-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/00000002-0000-0000-0000-000000000100,id=hostpci2,bus=pci.0,addr=0x1b",
			"-device usb-host,bus=ehci.0,vendorid=0x0951,productid=0x1666,id=usb0"}},
		{name: "a card of the node comes first", config: "hostpci0: 01:00.0,x-vga=1", want: []string{"-vga none"}, never: []string{"-vnc", "id=vga"}},
		{name: "integrated graphics", config: "hostpci0: 00:02.0,legacy-igd=1\nvga: none", want: []string{"-device vfio-pci,host=0000:00:02.0,id=hostpci0,bus=pci.0,addr=0x2"}},
		{name: "shared directory", config: "virtiofs1: share,cache=always", want: []string{"-object memory-backend-memfd,id=guest-memory,size=512M,share=on",
			"-machine accel=tcg,type=pc,memory-backend=guest-memory", "-chardev socket,id=virtiofs1,path=/run/q/100.virtiofs1",
			"-device vhost-user-fs-pci,queue-size=1024,chardev=virtiofs1,tag=share,id=virtiofs1,bus=pci.2,addr=0x1a"}},
		{name: "shared directory with NUMA", config: "virtiofs0: share\nnuma: 1", want: []string{"-object memory-backend-memfd,id=ram-node0,size=512M,share=on"}, never: []string{"guest-memory"}},
		{name: "thrown away", config: "scsi0: local:100/a.qcow2,snapshot=1", want: []string{
			`-blockdev {"detect-zeroes":"on","discard":"ignore","driver":"throttle","file":{"backing":{"cache":{"direct":true,"no-flush":false},"detect-zeroes":"off","discard":"ignore","driver":"qcow2","file":{"aio":"io_uring","cache":{"direct":true,"no-flush":false},"detect-zeroes":"off","discard":"ignore","driver":"file","filename":"/v/a.qcow2","node-name":"ef4fe559a1b2bb35e74bd180bc215f7","read-only":true},"node-name":"ff4fe559a1b2bb35e74bd180bc215f7","read-only":true},"cache":{"direct":false,"no-flush":true},"detect-zeroes":"on","discard":"ignore","driver":"qcow2","file":{"aio":"threads","cache":{"direct":false,"no-flush":true},"detect-zeroes":"on","discard":"ignore","driver":"file","filename":"/run/q/100-scsi0.overlay","node-name":"of4fe559a1b2bb35e74bd180bc215f7","read-only":false},"node-name":"sf4fe559a1b2bb35e74bd180bc215f7","read-only":false},"node-name":"drive-scsi0","read-only":false,"throttle-group":"throttle-drive-scsi0"}`}},
		{name: "spice beside virtio", config: "vga: virtio,clipboard=vnc,memory=64", want: []string{"-device virtio-vga,id=vga,max_hostmem=67108864,bus=pci.0,addr=0x2",
			"-chardev qemu-vdagent,id=vdagent,name=vdagent,clipboard=on"}},
		{name: "sleep", config: "machine: pc-i440fx-9.2+pve1,enable-s3=1", want: []string{"-global PIIX4_PM.disable_s4=1"}, never: []string{"disable_s3"}},
		{name: "aarch64", config: "arch: aarch64\nbios: ovmf\nide2: none,media=cdrom\nserial0: socket\nserial1: socket\ncpu: host", want: []string{"-cpu max",
			"-machine pflash0=pflash0,pflash1=drive-efidisk0,accel=tcg,type=virt", "-device pci-bridge,id=pci.1,chassis_nr=1,bus=pcie.0,addr=0x1e",
			"-device ahci,id=ide,bus=pcie.0,addr=0x1d", "-device ide-cd,bus=ide.1,unit=0,id=ide2,bootindex=200", "-serial chardev:serial0",
			"-device pci-serial,chardev=serial1,id=serial1,bus=pci.2,addr=0x1c", "-device usb-kbd,id=keyboard,bus=ehci.0,port=2"}},
		{name: "args come last", config: "args: -append 'a b'", want: []string{"-append a b"}},
	} {
		host, volume := plain()
		command, err := build(host, volume, c.config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		line := strings.Join(command.Args, " ") + " "
		for _, want := range c.want {
			if !strings.Contains(line, want+" ") {
				t.Errorf("%s: no %s\nin %s", c.name, want, line)
			}
		}
		for _, never := range c.never {
			if strings.Contains(line, never) {
				t.Errorf("%s: %s\nin %s", c.name, never, line)
			}
		}
	}
}

func TestWhatCannotBeHonouredNamesItsKey(t *testing.T) {
	for _, c := range []struct{ config, key string }{
		{"net0: virtio,bridge=nowhere", "net0"}, {"net1: carrier-pigeon", "net1"}, {"net0: virtio,bridge=vmbr0,mtu=9000", "net0"}, {"scsi0: local:100/missing.raw", "scsi0"},
		{"virtio0: none,media=cdrom", "virtio0"}, {"ide2: cdrom,media=cdrom", "ide2"}, {"scsi1: local:100/a.raw,iops=x", "scsi1"},
		{"machine: vax", "machine"}, {"machine: pc-i440fx-9.0+pve9", "machine"}, {"machine: pc,viommu=intel", "machine"},
		{"vcpus: 2", "vcpus"}, {"affinity: all", "affinity"}, {"cores: many", "cores"}, {"memory: 4", "memory"}, {"memory: 1600\nnuma: 1\nhotplug: memory", "memory"}, {"hotplug: memory", "hotplug"}, {"hugepages: 2", "hugepages"},
		{"cpu: custom-unknown", "cpu"}, {"bios: coreboot", "bios"}, {"vga: hercules", "vga"}, {"vga: serial0", "vga"}, {"usb0: nothing", "usb0"},
		{"usb9: spice", "usb9"}, {"hostpci0: mapping=x", "hostpci0"}, {"hostpci0: 01:00,pcie=1", "hostpci0"}, {"amd-sev: es", "amd-sev"},
		{"intel-tdx: tdx", "intel-tdx"}, {"virtiofs0: nothing", "virtiofs0"}, {"hostpci0: 00:02.0,legacy-igd=1", "hostpci0"}, {"usb0: mapping=lost", "usb0"},
		{"machine: virt", "machine"}, {"arch: aarch64", "bios"}, {"arch: aarch64\nbios: ovmf\nparallel0: /dev/parport0", "parallel0"},
		{"arch: vax", "arch"}, {"args: 'open", "args"}, {"smbios1: uuid=x,base64=1,serial=!", "smbios1"},
	} {
		host, volume := plain()
		_, err := build(host, volume, c.config)
		var about *cmdline.KeyError
		if !errors.As(err, &about) || about.Key != c.key {
			t.Errorf("%q: %v, want an error about %s", c.config, err, c.key)
		}
	}
}

func TestKVMGivesEnlightenmentsAndEnforces(t *testing.T) {
	host, volume := plain()
	host.KVM = true
	command, err := build(host, volume, "ostype: win11\ncpu: Haswell,hidden=1")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.Index(command.Args, "-cpu")
	want := "Haswell,enforce,hv_ipi,hv_relaxed,hv_reset,hv_runtime,hv_spinlocks=0x1fff,hv_stimer,hv_synic,hv_time,hv_vapic,hv_vpindex,kvm=off,vendor=GenuineIntel"
	if command.Args[i+1] != want {
		t.Errorf("-cpu %s\nwant %s", command.Args[i+1], want)
	}
	if command, err = build(host, volume, "kvm: 0"); err != nil || !strings.Contains(strings.Join(command.Args, " "), "accel=tcg") {
		t.Errorf("kvm: 0 gives %v, %v", command.Args, err)
	}
}

func TestEveryNumberedDeviceHasAPlaceOfItsOwn(t *testing.T) {
	host, volume := plain()
	seen := map[string]string{}
	var config []string
	for n := range 32 {
		config = append(config, fmt.Sprintf("net%d: e1000=BC:24:11:00:00:%02x", n, n))
	}
	for n := range 16 {
		config = append(config, fmt.Sprintf("virtio%d: local:100/v%d.raw", n, n))
	}
	for n := range 31 {
		config = append(config, fmt.Sprintf("scsi%d: local:100/s%d.raw", n, n))
	}
	config = append(config, "scsihw: virtio-scsi-single", "sata0: local:100/a.raw", "rng0: /dev/urandom", "agent: 1", "audio0: device=AC97",
		"ivshmem: size=1", "watchdog: i6300esb", "vga: qxl4", "ostype: win10", "usb0: spice,usb3=1", "hostpci0: 01:00.0", "hostpci2: 02:00.0", "hostpci15: 03:00.0")
	command, err := build(host, volume, strings.Join(config, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, arg := range command.Args {
		_, place, ok := strings.Cut(arg, ",bus=pci.")
		if command.Args[max(i-1, 0)] != "-device" || !ok {
			continue
		}
		bus, rest, _ := strings.Cut(place, ",addr=")
		slot, _, _ := strings.Cut(rest, ",")
		if other := seen[bus+" "+slot]; other != "" {
			t.Errorf("%s lies where %s does", arg, other)
		}
		seen[bus+" "+slot] = arg
	}
	if len(seen) < 90 {
		t.Errorf("only %d places seen", len(seen))
	}
}
