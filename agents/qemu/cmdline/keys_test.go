package cmdline_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

// everything are configurations that have, together, every key with which the
// machine that QEMU makes can be told apart.
var everything = map[string]string{
	"disks of all kinds": `scsihw: virtio-scsi-pci
scsi0: local:1/a.qcow2,cache=none,aio=native,discard=on,detect_zeroes=0,serial=A%20B,wwn=0x5000c50015ea71aa,ssd=1,product=disk,vendor=acme,queues=2,werror=report,rerror=stop
scsi1: local:1/b.raw,cache=writeback,aio=threads,iops=200,bps_wr=1048576,iops_max=300,iops_max_length=5
scsi2: local:1/c.raw,cache=unsafe,ro=1
scsi3: local:1/d.qcow2,snapshot=1
scsi30: local:iso/e.iso,media=cdrom
ide0: local:1/f.raw,model=old%20disk,ssd=1
ide2: none,media=cdrom
ide3: cdrom,media=cdrom
sata0: local:1/g.raw,cache=directsync
sata5: local:1/h.qcow2,wwn=0x5000c50015ea71ab
virtio0: local:1/i.raw,iothread=1,cache=writethrough,ro=1
virtio15: local:1/j.qcow2,format=qcow2,serial=last
boot: order=virtio15;net0;scsi30`,
	"a controller for each disk": "scsihw: virtio-scsi-single\nscsi0: local:1/a.raw,iothread=1,queues=4\nscsi17: local:1/b.raw\nscsi30: none,media=cdrom",
	"lsi":                        "scsi0: local:1/a.raw\nscsi7: local:1/b.raw\nscsi14: local:1/c.raw\nscsi30: local:1/d.raw",
	"lsi53c810":                  "scsihw: lsi53c810\nscsi0: local:1/a.raw\nscsi20: local:1/b.raw",
	"megasas":                    "scsihw: megasas\nscsi0: local:1/a.raw\nscsi1: none,media=cdrom",
	"pvscsi":                     "scsihw: pvscsi\nscsi0: local:1/a.raw\nscsi30: local:1/b.raw",
	"NICs of all kinds": `net0: virtio=BC:24:11:00:00:01,queues=4,mtu=1400
net1: e1000=BC:24:11:00:00:02
net2: e1000-82540em=BC:24:11:00:00:03
net3: e1000-82544gc=BC:24:11:00:00:04
net4: e1000-82545em=BC:24:11:00:00:05
net5: e1000e=BC:24:11:00:00:06
net6: i82551=BC:24:11:00:00:07
net7: i82557b=BC:24:11:00:00:08
net8: i82559er=BC:24:11:00:00:09
net9: ne2k_isa=BC:24:11:00:00:0A
net10: ne2k_pci=BC:24:11:00:00:0B
net11: pcnet=BC:24:11:00:00:0C
net12: rtl8139=BC:24:11:00:00:0D
net13: vmxnet3=BC:24:11:00:00:0E
net31: virtio=BC:24:11:00:00:0F`,
	"q35 in full": `machine: q35,viommu=virtio,enable-s3=1
bios: ovmf
efidisk0: local:1/efi.raw,efitype=4m,pre-enrolled-keys=1,ms-cert=2023
tpmstate0: local:1/tpm.raw,version=v2.0
cpu: Skylake-Client,flags=+aes;-pcid,hidden=1,phys-bits=40,hv-vendor-id=me
sockets: 2
cores: 2
numa: 1
memory: 512
numa0: cpus=0-1,memory=256,hostnodes=0,policy=bind
numa1: cpus=2;3,memory=256
affinity: 0
name: full
smbios1: uuid=7b10d7af-b932-4c66-b2c3-3996152ec465,base64=1,manufacturer=QWNtZQ==,product=Qm94,version=MQ==,serial=MTIz,sku=WA==,family=Rg==
vmgenid: 54d1c06c-8f5b-440f-b5b2-6eab1380e13a
ide1: none,media=cdrom
sata1: local:1/a.raw
audio0: device=ich9-intel-hda,driver=spice
vga: qxl4,memory=32
spice_enhancements: foldersharing=1,videostreaming=filter
usb0: spice
usb1: host=1234:5678
usb2: mapping=stick,usb3=1
usb3: host=1-2.3
rng0: source=/dev/urandom,max_bytes=2048,period=500
watchdog: model=i6300esb,action=poweroff
ivshmem: size=8,name=shared
serial0: socket
serial3: socket
agent: enabled=1,type=virtio
net0: virtio=BC:24:11:00:00:01`,
	"a PC of long ago": `machine: pc-i440fx-2.6
ostype: wxp
cpu: pentium3
vga: cirrus
acpi: 0
localtime: 0
tdf: 1
startdate: 2001-02-03T04:05:06
keyboard: de
reboot: 0
tablet: 0
balloon: 0
watchdog: ib700
audio0: device=AC97
agent: enabled=1,type=isa
serial0: /dev/null
ide0: local:1/a.raw
net0: ne2k_pci=BC:24:11:00:00:01
args: -device isa-debugcon,iobase=0x402,chardev=dbg -chardev null,id=dbg`,
	"vmware's card":       "vga: vmware,memory=16",
	"virtio's card":       "vga: virtio,clipboard=vnc",
	"standard card":       "vga: std,clipboard=vnc,memory=32\naudio0: device=intel-hda,driver=none",
	"a serial line":       "vga: serial1\nserial1: socket",
	"no card":             "vga: none",
	"qxl":                 "vga: qxl2\nostype: l26",
	"CPUs that come":      "cores: 4\nvcpus: 2\nhotplug: cpu,memory,usb\nnuma: 1\nmemory: 2048\nballoon: 1024\nshares: 500",
	"huge pages":          "numa: 1\nhugepages: 2\nmemory: 64\nkeephugepages: 1",
	"Windows":             "ostype: win11\nmachine: pc-q35-7.1\nbios: ovmf\nefidisk0: local:1/e.qcow2,efitype=4m\nusb13: spice\nvga: qxl\ncpu: max",
	"a level":             "cpu: x86-64-v3\nostype: l26\nmachine: pc-i440fx-7.2",
	"our own model":       "cpu: custom-qemu64,flags=+virt-ssbd",
	"Solaris":             "ostype: solaris\nkvm: 0",
	"shared directories":  "virtiofs0: share,cache=always,direct-io=1\nvirtiofs9: share,expose-acl=1\nmemory: 64",
	"directories, NUMA":   "virtiofs0: share\nnuma: 1\nsockets: 2\nmemory: 64",
	"everything at 64 B":  "memory: current=64\nsockets: 1",
	"aarch64":             "arch: aarch64\nbios: ovmf\nefidisk0: local:1/e.raw,pre-enrolled-keys=1\nscsihw: virtio-scsi-pci\nscsi0: local:1/a.raw\nsata0: local:1/b.raw\nvirtio0: local:1/c.raw\nide0: local:1/d.raw\nide2: none,media=cdrom\nnet0: virtio=BC:24:11:00:00:01\nserial0: socket\nserial1: socket\nagent: 1\nrng0: source=/dev/urandom\nwatchdog: i6300esb\ntpmstate0: local:1/t.raw,version=v2.0\nusb0: host=1234:5678\nvirtiofs0: share\ncores: 2",
	"aarch64, other card": "arch: aarch64\nbios: ovmf\nvga: std\nmachine: virt-7.1\ncpu: cortex-a57\nnuma: 1\nmemory: 128",
	"IOMMU of a PC":       "machine: pc,viommu=virtio",
	"screens of Windows":  "vga: qxl3\nostype: win10",
	"intel's IOMMU":       "machine: q35,viommu=intel,aw-bits=48",
}

func TestEverythingStarts(t *testing.T) {
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range everything {
			if !yield(name) {
				return
			}
		}
	}) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "")
			seen, err := b.start(mainSection(everything[name]))
			if err != nil {
				t.Error(err)
			}
			t.Log(strings.Join(seen, " "))
		})
	}
}

// elsewhere are the keys that a command line does not show, with who heeds them.
var elsewhere = map[string]string{
	"allow-ksm": "nobody: QEMU 7.2 merges what the kernel lets it", "autostart": "nobody: without effect for long", "balloon": "hotplug, after the start",
	"bootdisk": "the legacy boot order", "cdrom": "an alias of ide2", "cicustom": "cloud-init", "cipassword": "cloud-init", "citype": "cloud-init", "ciupgrade": "cloud-init",
	"ciuser": "cloud-init", "cpulimit": "cgroup", "cpuunits": "cgroup", "description": "people", "freeze": "the start", "hookscript": "the start",
	"hotplug": "hotplug", "ipconfig[n]": "cloud-init", "keephugepages": "pages", "lock": "tasks", "migrate_downtime": "migration", "migrate_speed": "migration",
	"nameserver": "cloud-init", "onboot": "the boot of the node", "parent": "snapshots", "protection": "tasks", "running-nets-host-mtu": "TestStateFindsTheHardwareItWasSavedOn",
	"runningcpu": "snapshots", "runningmachine": "snapshots", "searchdomain": "cloud-init", "shares": "ballooning", "smp": "an alias of sockets",
	"snaptime": "snapshots", "sshkeys": "cloud-init", "startup": "the boot of the node", "tags": "people", "template": "", "unused[n]": "storage",
	"parallel[n]": "TestBuild: QEMU wants a real port", "vmstate": "snapshots", "vmstatestorage": "snapshots", "affinity": "taskset", "meta": "the machine of Windows guests",
}

func TestEveryKeyIsHeeded(t *testing.T) {
	var schema struct {
		Properties map[string]struct{}
	}
	content, err := os.ReadFile(filepath.Join(golden.Dir(t, "schema"), "qemu.json"))
	if err == nil {
		err = json.Unmarshal(content, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(schema.Properties) < 80 {
		t.Fatalf("the schema has %d properties", len(schema.Properties))
	}
	used := map[string]bool{}
	for _, text := range everything {
		for key := range mainSection(text) {
			used[key] = true
			used[strings.TrimRight(key, "0123456789")+"[n]"] = true
		}
	}
	for key := range schema.Properties {
		_, known := elsewhere[key]
		if !known && !used[key] && key != "hostpci[n]" && key != "amd-sev" && key != "intel-tdx" {
			t.Errorf("%s is neither tried nor somebody else's", key)
		}
	}
}
