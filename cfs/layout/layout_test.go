package layout

import "testing"

func TestGuestOf(t *testing.T) {
	for path, want := range map[string]Guest{
		"nodes/n1/qemu-server/100.conf":        {100, "n1", QEMU},
		"nodes/n1/lxc/5.conf":                  {5, "n1", LXC},
		"nodes/n1/lxc/4294967295.conf":         {4294967295, "n1", LXC},
		"nodes/n1/lxc/4294967296.conf":         {},
		"nodes/n1/qemu-server/0100.conf":       {},
		"nodes/n1/qemu-server/0.conf":          {},
		"nodes/n1/qemu-server/+1.conf":         {},
		"nodes/n1/qemu-server/100.conf.tmp.1":  {},
		"nodes/n1/qemu-server/100":             {},
		"nodes/n1/openvz/100.conf":             {},
		"nodes/n1/qemu-server/x/100.conf":      {},
		"qemu-server/100.conf":                 {},
		"nodes//qemu-server/100.conf":          {},
		"nodes/N-1/lxc/7.conf":                 {7, "N-1", LXC},
		"nodes/-n1/lxc/7.conf":                 {},
		"nodes/n1-/lxc/7.conf":                 {},
		"nodes/n.1/lxc/7.conf":                 {},
		"nodes/n_1/lxc/7.conf":                 {},
		"other/nodes/n1/qemu-server/100.conf":  {},
		"nodes/n1/qemu-server/100.conf/x.conf": {},
	} {
		got, ok := GuestOf(path)
		if ok != (want.VMID != 0) || ok && got != want {
			t.Errorf("GuestOf(%q) = %v, %v; want %v", path, got, ok, want)
		}
		if ok && got.Path() != path {
			t.Errorf("GuestOf(%q).Path() = %q", path, got.Path())
		}
	}
}

func TestModeFollowsFromThePath(t *testing.T) {
	for _, c := range []struct {
		path string
		dir  bool
		want uint32
	}{
		{"", true, 0o755},
		{"user.cfg", false, 0o640},
		{"nodes/n1", true, 0o755},
		{"priv", true, 0o700},
		{"priv/shadow.cfg", false, 0o600},
		{"priv/lock/x", true, 0o700},
		{"privy", true, 0o755},
		{"nodes/n1/priv", true, 0o700},
		{"nodes/n1/priv/a/b", false, 0o600},
		{"nodes/priv", true, 0o755},
		{"nodes/priv/x", false, 0o640},
		{"a/priv/x", false, 0o640},
		{"nodes/n1/pve-ssl.key", false, 0o640},
		{"openvz/100.mount", false, 0o740},
		{"priv/vps.premount", false, 0o700},
		{"100.mount", true, 0o755},
		{"0100.mount", false, 0o640},
		{"100.mount.x", false, 0o640},
	} {
		if got := Mode(c.path, c.dir); got != c.want {
			t.Errorf("Mode(%q, %v) = %o; want %o", c.path, c.dir, got, c.want)
		}
	}
}

func TestIsTemporary(t *testing.T) {
	for _, name := range []string{"100.conf.tmp.4711", "sedAb3xY9", ".100.conf.swp", ".100.conf.swx", ".100.conf.swpx",
		"4913", "100.conf~", ".#100.conf", "#100.conf#", "storage.cfg.dpkg-new"} {
		if !IsTemporary(name) {
			t.Errorf("%q is not taken for a temporary name", name)
		}
	}
	for _, name := range []string{"100.conf", "sedative", "corosync.conf.new", ".hidden", "interfaces.new", "authkey.pub.old", "4914", "#"} {
		if IsTemporary(name) {
			t.Errorf("%q is taken for a temporary name", name)
		}
	}
}

func TestLocks(t *testing.T) {
	if !IsLock("priv/lock/file-user_cfg") || IsLock("priv/lock") || IsLock("priv/lock/a/b") || IsLock("priv/locks/a") {
		t.Error("a lock is a directory directly below priv/lock")
	}
}
