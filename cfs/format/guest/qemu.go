package guest

import s "etcpve/cfs/format/schema"

// Patterns that several settings share.
const (
	uuid    = `[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}`
	base64  = `[A-Za-z0-9+\/]+={0,2}`
	ranges  = `\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*`
	hexWord = `0x[0-9a-fA-F]{4}`
	machine = `(pc|pc(-i440fx)?-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|q35|pc-q35-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|virt(?:-\d+(\.\d+)+)?(\+pve\d+)?)`
	pciAddr = `(?:[a-f0-9]{4,}:)?[a-f0-9]{2}:[a-f0-9]{2}(?:\.[a-f0-9])?`
	usbHost = `(0x)?[0-9A-Fa-f]{4}:(0x)?[0-9A-Fa-f]{4}|\d+-\d+(\.\d+)*|[Ss][Pp][Ii][Cc][Ee]`
)

// qemuTable are the settings of a virtual machine.
var qemuTable = s.Keys{
	"acpi":                  s.Truth().Else(1),
	"affinity":              s.Named("pve-cpuset"),
	"agent":                 s.Nested(agentKeys),
	"allow-ksm":             s.Truth().Else(1),
	"amd-sev":               s.Nested(sevKeys),
	"arch":                  s.Choice("x86_64", "aarch64"),
	"args":                  s.Text(),
	"audio0":                s.Nested(audioKeys),
	"autostart":             s.Truth().Else(0),
	"balloon":               s.Integer().Min(0),
	"bios":                  s.Choice("seabios", "ovmf").Else("seabios"),
	"boot":                  s.Nested(bootKeys),
	"bootdisk":              &s.Property{Type: "string", Format: s.Format{Name: "pve-qm-bootdisk"}, Pattern: `(ide|sata|scsi|virtio)\d+`, Optional: true},
	"cdrom":                 s.Nested(ideKeys),
	"cicustom":              s.Nested(cicustomKeys),
	"cipassword":            s.Text(),
	"citype":                s.Choice("configdrive2", "nocloud", "opennebula"),
	"ciupgrade":             s.Truth().Else(1),
	"ciuser":                s.Text(),
	"cores":                 s.Integer().Min(1).Else(1),
	"cpu":                   s.Nested(cpuKeys),
	"cpulimit":              s.Number().Min(0).Max(128).Else(0),
	"cpuunits":              s.Integer().Min(1).Max(262144),
	"description":           s.Text().Long(8192),
	"efidisk0":              s.Nested(efidiskKeys),
	"freeze":                s.Truth(),
	"hookscript":            s.Named("pve-volume-id"),
	"hostpci[0-15]":         s.Nested(hostpciKeys),
	"hotplug":               s.Named("pve-hotplug-features").Else("network,disk,usb"),
	"hugepages":             s.Choice("any", "2", "1024"),
	"ide[0-3]":              s.Nested(ideKeys),
	"intel-tdx":             s.Nested(tdxKeys),
	"ipconfig[0-31]":        s.Nested(ipconfigKeys),
	"ivshmem":               s.Nested(ivshmemKeys),
	"keephugepages":         s.Truth().Else(0),
	"keyboard":              s.Choice("de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "hu", "is", "it", "ja", "lt", "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr"),
	"kvm":                   s.Truth().Else(1),
	"localtime":             s.Truth(),
	"lock":                  s.Choice("backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"),
	"machine":               s.Nested(machineKeys),
	"memory":                s.Nested(memoryKeys),
	"meta":                  s.Nested(metaKeys),
	"migrate_downtime":      s.Number().Min(0).Else("0.1"),
	"migrate_speed":         s.Integer().Min(0).Else(0),
	"name":                  s.Named("dns-name"),
	"nameserver":            s.Named("address-list"),
	"net[0-31]":             s.Nested(netKeys),
	"numa":                  s.Truth().Else(0),
	"numa[0-7]":             s.Nested(numaKeys),
	"onboot":                s.Truth().Else(0),
	"ostype":                s.Choice("other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris").Else("other"),
	"parallel[0-2]":         s.Matching(`/dev/parport\d+|/dev/usb/lp\d+`),
	"parent":                s.Named("pve-configid").Long(40),
	"protection":            s.Truth().Else(0),
	"reboot":                s.Truth().Else(1),
	"rng0":                  s.Nested(rngKeys),
	"running-nets-host-mtu": s.Matching(`net\d+=\d+(,net\d+=\d+)*`),
	"runningcpu":            s.Matching(`([+-]?[\w\-._=]+,?)+`),
	"runningmachine":        s.Nested(machineKeys),
	"sata[0-5]":             s.Nested(sataKeys),
	"scsi[0-30]":            s.Nested(scsiKeys),
	"scsihw":                s.Choice("lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi").Else("lsi"),
	"searchdomain":          s.Text(),
	"serial[0-3]":           s.Matching(`(/dev/[^,]+|socket)`),
	"shares":                s.Integer().Min(0).Max(50000).Else(1000),
	"smbios1":               s.Nested(smbiosKeys).Long(512),
	"smp":                   s.Integer().Min(1).Else(1),
	"snaptime":              s.Integer().Min(0),
	"sockets":               s.Integer().Min(1).Else(1),
	"spice_enhancements":    s.Nested(spiceKeys),
	"sshkeys":               s.Named("urlencoded"),
	"startdate":             s.Matching(`(now|\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?)`).Else("now"),
	"startup":               s.Named("pve-startup-order"),
	"tablet":                s.Truth().Else(1),
	"tags":                  s.Named("pve-tag-list"),
	"tdf":                   s.Truth().Else(0),
	"template":              s.Truth().Else(0),
	"tpmstate0":             s.Nested(tpmstateKeys),
	"unused[0-255]":         s.Nested(unusedKeys),
	"usb[0-13]":             s.Nested(usbKeys),
	"vcpus":                 s.Integer().Min(1).Else(0),
	"vga":                   s.Nested(vgaKeys),
	"virtio[0-15]":          s.Nested(virtioKeys),
	"virtiofs[0-9]":         s.Nested(virtiofsKeys),
	"vmgenid":               s.Matching(`(?:` + uuid + `|[01])`).Else("1"),
	"vmstate":               s.Named("pve-volume-id"),
	"vmstatestorage":        s.Named("pve-storage-id"),
	"watchdog":              s.Nested(watchdogKeys),
}

// fleecingKeys are the settings of [special:fleecing].
var fleecingKeys = s.Keys{"fleecing-images": s.Named("pve-volume-id-list")}

// The property strings of a virtual machine, in the order of its settings.
var (
	agentKeys = s.Keys{
		"enabled":             s.Truth().Else(0).Bare().Must(),
		"freeze-fs":           s.Truth().Else(1),
		"freeze-fs-on-backup": s.Same("freeze-fs", ""),
		"fstrim_cloned_disks": s.Truth().Else(0),
		"guest-fsfreeze":      s.Same("freeze-fs", ""),
		"type":                s.Choice("virtio", "isa").Else("virtio"),
	}
	sevKeys = s.Keys{
		"allow-smt":      s.Truth().Else(1),
		"kernel-hashes":  s.Truth().Else(0),
		"no-debug":       s.Truth().Else(0),
		"no-key-sharing": s.Truth().Else(0),
		"type":           s.Choice("std", "es", "snp").Long(3).Bare().Must(),
	}
	audioKeys = s.Keys{
		"device": s.Choice("ich9-intel-hda", "intel-hda", "AC97").Must(),
		"driver": s.Choice("spice", "none").Else("spice"),
	}
	bootKeys = s.Keys{
		"legacy": s.Matching(`[acdn]{1,4}`).Else("cdn").Bare(),
		"order":  s.Named("pve-qm-bootdev-list"),
	}
	cicustomKeys = s.Keys{
		"meta":    s.Named("pve-volume-id"),
		"network": s.Named("pve-volume-id"),
		"user":    s.Named("pve-volume-id"),
		"vendor":  s.Named("pve-volume-id"),
	}
	cpuKeys = s.Keys{
		"cputype":         s.Text().Else("kvm64").Bare(),
		"flags":           s.Matching(`[+-][a-zA-Z0-9\-_.]+(;[+-][a-zA-Z0-9\-_.]+)*`),
		"guest-phys-bits": s.Integer().Min(32).Max(64),
		"hidden":          s.Truth().Else(0),
		"hv-vendor-id":    s.Matching(`[a-zA-Z0-9]{1,12}`),
		"level":           s.Integer().Min(0).Max(4294967295),
		"phys-bits":       s.Named("pve-phys-bits"),
		"reported-model":  s.Choice(cpuModels...).Else("kvm64"),
	}
	hostpciKeys = s.Keys{
		"device-id":     s.Matching(hexWord),
		"driver":        s.Choice("vfio", "keep").Else("vfio"),
		"host":          s.Matching(pciAddr + `(;` + pciAddr + `)*`).Bare(),
		"legacy-igd":    s.Truth().Else(0),
		"mapping":       s.Named("pve-configid"),
		"mdev":          s.Matching(`[^/.:]+`),
		"pcie":          s.Truth().Else(0),
		"rombar":        s.Truth().Else(1),
		"romfile":       s.Matching(`[^,;]+`),
		"sub-device-id": s.Matching(hexWord),
		"sub-vendor-id": s.Matching(hexWord),
		"vendor-id":     s.Matching(hexWord),
		"x-vga":         s.Truth().Else(0),
	}
	tdxKeys = s.Keys{
		"attestation": s.Truth().Else(1).Must(),
		"type":        s.Choice("tdx").Bare().Must(),
		"vsock-cid":   s.Integer().Min(2).Else(2),
		"vsock-port":  s.Integer().Min(0).Else(4050),
	}
	ipconfigKeys = s.Keys{
		"gw":  s.Named("ipv4").Needs("ip"),
		"gw6": s.Named("ipv6").Needs("ip6"),
		"ip":  s.Named("pve-ipv4-config").Else("dhcp"),
		"ip6": s.Named("pve-ipv6-config").Else("dhcp"),
	}
	ivshmemKeys = s.Keys{
		"name": s.Matching(`[a-zA-Z0-9\-]+`),
		"size": s.Integer().Min(1).Must(),
	}
	machineKeys = s.Keys{
		"aw-bits":   s.Number().Min(32).Max(64),
		"enable-s3": s.Truth(),
		"enable-s4": s.Truth(),
		"type":      s.Matching(machine).Long(40).Bare(),
		"viommu":    s.Choice("intel", "virtio"),
	}
	memoryKeys = s.Keys{"current": s.Integer().Min(16).Else(512).Bare().Must()}
	metaKeys   = s.Keys{
		"creation-qemu": s.Matching(`\d+(\.\d+)+`),
		"ctime":         s.Integer().Min(0),
	}
	numaKeys = s.Keys{
		"cpus":      s.Matching(ranges).Must(),
		"hostnodes": s.Matching(ranges),
		"memory":    s.Number(),
		"policy":    s.Choice("preferred", "bind", "interleave"),
	}
	rngKeys = s.Keys{
		"max_bytes": s.Integer().Else(1024),
		"period":    s.Integer().Else(1000),
		"source":    s.Choice("/dev/urandom", "/dev/random", "/dev/hwrng").Bare().Must(),
	}
	smbiosKeys = s.Keys{
		"base64":       s.Truth(),
		"family":       s.Matching(base64),
		"manufacturer": s.Matching(base64),
		"product":      s.Matching(base64),
		"serial":       s.Matching(base64),
		"sku":          s.Matching(base64),
		"uuid":         s.Matching(uuid),
		"version":      s.Matching(base64),
	}
	spiceKeys = s.Keys{
		"foldersharing":  s.Truth().Else(0),
		"videostreaming": s.Choice("off", "all", "filter").Else("off"),
	}
	usbKeys = s.Keys{
		"host":    s.Matching(usbHost).Bare(),
		"mapping": s.Named("pve-configid"),
		"usb3":    s.Truth().Else(0),
	}
	vgaKeys = s.Keys{
		"clipboard": s.Choice("vnc"),
		"memory":    s.Integer().Min(4).Max(512),
		"type":      s.Choice("cirrus", "qxl", "qxl2", "qxl3", "qxl4", "none", "serial0", "serial1", "serial2", "serial3", "std", "virtio", "virtio-gl", "vmware").Else("std").Bare(),
	}
	virtiofsKeys = s.Keys{
		"cache":        s.Choice("auto", "always", "metadata", "never").Else("auto"),
		"direct-io":    s.Truth().Else(0),
		"dirid":        s.Named("pve-configid").Bare().Must(),
		"expose-acl":   s.Truth().Else(0),
		"expose-xattr": s.Truth().Else(0),
	}
	watchdogKeys = s.Keys{
		"action": s.Choice("reset", "shutdown", "poweroff", "pause", "debug", "none"),
		"model":  s.Choice("i6300esb", "ib700").Else("i6300esb").Bare(),
	}
)

// netKeys are the settings of a network card. Each model is also a key: its
// value is then the hardware address.
var netKeys = func() s.Keys {
	models := []string{"e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_isa", "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3"}
	keys := s.Keys{
		"bridge":      s.Named("pve-bridge-id"),
		"firewall":    s.Truth(),
		"host-tunnel": s.Truth(),
		"link_down":   s.Truth(),
		"macaddr":     s.Named("mac-addr"),
		"model":       s.Choice(models...).Bare().Must(),
		"mtu":         s.Integer().Min(1).Max(65520),
		"queues":      s.Integer().Min(0).Max(64),
		"rate":        s.Number().Min(0),
		"tag":         s.Integer().Min(1).Max(4094),
		"trunks":      s.Matching(ranges),
	}
	for _, model := range models {
		keys[model] = s.Same("macaddr", "model")
	}
	return keys
}()
