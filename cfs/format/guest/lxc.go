package guest

import (
	"regexp"
	"slices"

	s "etcpve/cfs/format/schema"
)

// lxcTable are the settings of a container.
var lxcTable = s.Keys{
	"arch":          s.Choice("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64").Else("amd64"),
	"cmode":         s.Choice("shell", "console", "tty").Else("tty"),
	"console":       s.Truth().Else(1),
	"cores":         s.Integer().Min(1).Max(8192),
	"cpulimit":      s.Number().Min(0).Max(8192).Else(0),
	"cpuunits":      s.Integer().Min(0).Max(500000),
	"debug":         s.Truth().Else(0),
	"description":   s.Text().Long(8192),
	"dev[0-255]":    s.Nested(deviceKeys),
	"entrypoint":    s.Matching(`[^\x00-\x08\x0a-\x1F\x7F]+`).Else("/sbin/init"),
	"env":           s.Matching(`(?:\w+=[^\x00-\x08\x0a-\x1F\x7F]*)(?:\0\w+=[^\x00-\x08\x0a-\x1F\x7F]*)*`),
	"features":      s.Nested(featureKeys),
	"hookscript":    s.Named("pve-volume-id"),
	"hostname":      s.Named("dns-name").Long(255),
	"lock":          s.Choice("backup", "create", "destroyed", "disk", "fstrim", "migrate", "mounted", "rollback", "snapshot", "snapshot-delete"),
	"memory":        s.Integer().Min(16).Else(512),
	"mp[0-255]":     s.Nested(mountKeys),
	"nameserver":    s.Named("lxc-ip-with-ll-iface-list"),
	"net[0-31]":     s.Nested(interfaceKeys),
	"onboot":        s.Truth().Else(0),
	"ostype":        s.Choice("debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos", "unmanaged"),
	"parent":        s.Named("pve-configid").Long(40),
	"protection":    s.Truth().Else(0),
	"rootfs":        s.Nested(rootfsKeys),
	"searchdomain":  s.Named("dns-name-list"),
	"snaptime":      s.Integer().Min(0),
	"startup":       s.Named("pve-startup-order"),
	"swap":          s.Integer().Min(0).Else(512),
	"tags":          s.Named("pve-tag-list"),
	"template":      s.Truth().Else(0),
	"timezone":      s.Named("pve-ct-timezone"),
	"tty":           s.Integer().Min(0).Max(6).Else(2),
	"unprivileged":  s.Truth().Else(0),
	"unused[0-255]": s.Nested(s.Keys{"volume": s.Named("pve-volume-id").Bare().Must()}),
}

// The property strings of a container.
var (
	deviceKeys = s.Keys{
		"deny-write": s.Truth().Else(0),
		"gid":        s.Integer().Min(0),
		"mode":       s.Matching(`0[0-7]{3}`),
		"path":       s.Named("pve-lxc-dev-string").Bare(),
		"uid":        s.Integer().Min(0),
	}
	featureKeys = s.Keys{
		"force_rw_sys": s.Truth().Else(0),
		"fuse":         s.Truth().Else(0),
		"keyctl":       s.Truth().Else(0),
		"mknod":        s.Truth().Else(0),
		"mount":        s.Matching(`[a-zA-Z0-9_; ]+`),
		"nesting":      s.Truth().Else(0),
	}
	rootfsKeys = s.Keys{
		"acl":          s.Truth(),
		"idmap":        s.Matching(`(?:passthrough|[ug]:[0-9]+:[0-9]+:[1-9][0-9]*(?:;[ug]:[0-9]+:[0-9]+:[1-9][0-9]*)*)`),
		"mountoptions": s.Matching(`(discard|lazytime|noatime|nodev|noexec|nosuid)(;(discard|lazytime|noatime|nodev|noexec|nosuid))*`),
		"quota":        s.Truth(),
		"replicate":    s.Truth().Else(1),
		"ro":           s.Truth(),
		"shared":       s.Truth().Else(0),
		"size":         s.Named("disk-size"),
		"volume":       s.Named("pve-lxc-mp-string").Bare().Must(),
	}
	mountKeys = with(rootfsKeys, s.Keys{
		"backup":    s.Truth(),
		"keepattrs": s.Truth().Else(0),
		"mp":        s.Named("pve-lxc-mp-string").Must(),
	})
	interfaceKeys = s.Keys{
		"bridge":       s.Matching(`[-_.\w\d]+`),
		"firewall":     s.Truth(),
		"gw":           s.Named("ipv4"),
		"gw6":          s.Named("ipv6"),
		"host-managed": s.Truth(),
		"hwaddr":       s.Named("mac-addr"),
		"ip":           s.Named("pve-ipv4-config"),
		"ip6":          s.Named("pve-ipv6-config"),
		"link_down":    s.Truth(),
		"mtu":          s.Integer().Min(64).Max(65535),
		"name":         s.Matching(`[-_.\w\d]+`).Must(),
		"rate":         s.Number(),
		"tag":          s.Integer().Min(1).Max(4094),
		"trunks":       s.Matching(`\d+(?:;\d+)*`),
		"type":         s.Choice("veth"),
	}
)

// rawFamilies are the raw liblxc settings that may carry any further name.
var rawFamilies = regexp.MustCompile(`^lxc\.(?:cgroup2?|prlimit|net)\.`)

// rawKeys are the raw liblxc settings that may be used.
var rawKeys = []string{
	"lxc.apparmor.allow_incomplete", "lxc.apparmor.allow_nesting", "lxc.apparmor.profile", "lxc.apparmor.raw", "lxc.arch", "lxc.autodev",
	"lxc.cap.drop", "lxc.cap.keep", "lxc.console.logfile", "lxc.console.path", "lxc.devtty.dir",
	"lxc.environment", "lxc.environment.hooks", "lxc.environment.runtime", "lxc.group",
	"lxc.hook.autodev", "lxc.hook.clone", "lxc.hook.destroy", "lxc.hook.mount", "lxc.hook.post-stop", "lxc.hook.pre-mount", "lxc.hook.pre-start",
	"lxc.hook.start", "lxc.hook.stop", "lxc.hook.version", "lxc.idmap", "lxc.include",
	"lxc.init.cmd", "lxc.init.cwd", "lxc.init.gid", "lxc.init.groups", "lxc.init.uid", "lxc.kmsg", "lxc.log.file", "lxc.log.level",
	"lxc.mount.auto", "lxc.mount.entry", "lxc.mount.fstab", "lxc.pty.max", "lxc.rootfs.mount",
	"lxc.seccomp.notify.cookie", "lxc.seccomp.notify.proxy", "lxc.seccomp.profile", "lxc.selinux.context",
	"lxc.signal.halt", "lxc.signal.reboot", "lxc.signal.stop", "lxc.start.auto", "lxc.start.delay", "lxc.start.order",
	"lxc.sysctl.fs.mqueue", "lxc.sysctl.kernel.msgmax", "lxc.sysctl.kernel.msgmnb", "lxc.sysctl.kernel.msgmni", "lxc.sysctl.kernel.sem",
	"lxc.sysctl.kernel.shm_rmid_forced", "lxc.sysctl.kernel.shmall", "lxc.sysctl.kernel.shmmax", "lxc.sysctl.kernel.shmmni",
	"lxc.tty.max", "lxc.uts.name",
}

// rawRefused are raw settings that other settings make, with the reason.
var rawRefused = map[string]string{
	"lxc.rootfs.options": `lxc.rootfs.options is not supported, please use mount point options in the "rootfs" key`,
	"lxc.rootfs.path":    "lxc.rootfs.path is auto generated from rootfs",
}

func rawAllowed(key string) bool {
	return slices.Contains(rawKeys, key) || rawFamilies.MatchString(key)
}
