package format

import (
	"strings"
	"testing"

	"etcpve/cfs/format/text"
)

func TestEachPathHasItsFormat(t *testing.T) {
	for _, path := range []string{
		"nodes/n1/qemu-server/100.conf", "nodes/n1/lxc/101.conf", "nodes/n1/config", "nodes/n1/host.fw",
		"storage.cfg", "replication.cfg", "jobs.cfg", "domains.cfg", "status.cfg", "user.cfg", "datacenter.cfg",
		"corosync.conf", "corosync.conf.new", "ha/resources.cfg", "ha/rules.cfg", "ha/groups.cfg",
		"mapping/pci.cfg", "mapping/usb.cfg", "mapping/directory.cfg",
		"sdn/zones.cfg", "sdn/vnets.cfg", "sdn/subnets.cfg", "sdn/controllers.cfg", "sdn/ipams.cfg", "sdn/dns.cfg", "sdn/fabrics.cfg",
		"notifications.cfg", "priv/notifications.cfg", "virtual-guest/cpu-models.conf", "priv/acme/plugins.cfg",
		"firewall/cluster.fw", "firewall/100.fw", "sdn/firewall/v1.fw", "power/100",
	} {
		if !Known(path) {
			t.Errorf("%s has no format", path)
		}
		if refused, warnings := Check(path, nil); len(refused)+len(warnings) > 0 {
			t.Errorf("%s: an empty file: %v, %v", path, refused, warnings)
		}
	}
	for _, path := range []string{"", "x", "ceph.conf", "nodes/n1/pve-ssl.pem", "ha/manager_status", "power/x", "priv/user.cfg", "a/storage.cfg", "firewall/x.fw"} {
		if refused, _ := Check(path, []byte("any\x00thing\n{")); Known(path) || len(refused) > 0 {
			t.Errorf("%s has a format: %v", path, refused)
		}
	}
}

func TestBadFilesAreRefusedWithAPlace(t *testing.T) {
	for _, c := range []struct {
		path, content string
		line, column  int
		key           string
	}{
		{"datacenter.cfg", "keyboard: de\ncrs:\n", 2, 5, "crs"},
		{"datacenter.cfg", "keyboard: xx\n", 1, 11, "keyboard"},
		{"nodes/n1/config", "startall-onboot-delay: 301\n", 1, 24, "startall-onboot-delay"},
		{"storage.cfg", "# mine\n\ndir: a1\n\tpath x\n", 4, 7, "path"},
		{"firewall/100.fw", "[RULES]\nIN NoMacro(ACCEPT)\n", 2, 4, "action"},
		{"firewall/cluster.fw", "[RULES]\nGROUP none\n", 2, 7, "action"},
		{"user.cfg", "acl:1:/:root@pam\nnonsense\n", 2, 1, "nonsense"},
		{"power/100", "started\n", 1, 1, ""},
		{"power/100", "running", 1, 1, ""},
		{"power/100", "running\nstopped\n", 2, 1, ""},
		{"corosync.conf", "totem {\n", 1, 0, ""},
		{"nodes/n1/qemu-server/100.conf", "cores: 2\nmemory: lots\n", 2, 0, "memory"},
	} {
		refused, _ := Check(c.path, []byte(c.content))
		if len(refused) == 0 {
			t.Errorf("%s: %q was accepted", c.path, c.content)
			continue
		}
		e := refused[0]
		if e.File != c.path || e.Line != c.line || c.column > 0 && e.Column != c.column || c.key != "" && e.Key != c.key && e.Key != "user" {
			t.Errorf("%s: %q: %+v; want %d:%d %s", c.path, c.content, e, c.line, c.column, c.key)
		}
	}
}

func TestGoodFilesPass(t *testing.T) {
	for path, content := range map[string]string{
		"power/100":                     "paused\n",
		"power/7":                       "stopped\n",
		"datacenter.cfg":                "# text\nkeyboard: de\ncrs: ha=static,ha-rebalance-on-start=1\nmigration: secure,network=10.0.0.0/24\nrestore-power: 1\n",
		"nodes/n1/config":               "#my%20node\nwakeonlan: BC:24:11:00:00:01\nacmedomain0: n1.example.org,plugin=cf\n",
		"nodes/n1/qemu-server/100.conf": "cores: 2\nmemory: 2048\nscsi0: local:100/vm-100-disk-0.qcow2,size=8G\n",
		"corosync.conf":                 "totem {\n  cluster_name: lab\n  config_version: 1\n  version: 2\n}\n",
		"firewall/100.fw":               "[OPTIONS]\nenable: 1\n\n[RULES]\nIN SSH(ACCEPT) -i net0\n",
		"user.cfg":                      "user:root@pam:1:0:::a@example.org:::\n\n\n\n\n",
	} {
		if refused, warnings := Check(path, []byte(content)); len(refused)+len(warnings) > 0 {
			t.Errorf("%s: %v, %v", path, refused, warnings)
		}
	}
}

func TestUnknownKeysPassWithAWarning(t *testing.T) {
	for path, content := range map[string]string{
		"datacenter.cfg": "future: 1\n",
		"storage.cfg":    "holo: cube\n\tdepth 3\n\ndir: ab\n\tpath /x\n\tfuture 1\n",
	} {
		if refused, warnings := Check(path, []byte(content)); len(refused) > 0 || len(warnings) == 0 {
			t.Errorf("%s: %v, %v", path, refused, warnings)
		}
	}
}

// TestEachWriteCanBeRefused feeds bytes as a slow program would.
func TestEachWriteCanBeRefused(t *testing.T) {
	for path, content := range map[string]string{
		"datacenter.cfg":                "keyboard: de\ncrs:\nlanguage: de\n",
		"storage.cfg":                   "dir: ab\n\tpath x\n\tshared 1\n",
		"firewall/100.fw":               "[RULES]\nIN ACCEPT -p wrong\nIN DROP\n",
		"power/100":                     "on\n",
		"user.cfg":                      "user:x\n",
		"nodes/n1/qemu-server/100.conf": "memory: lots\ncores: 2\n",
	} {
		c := NewChecker(path)
		var at int
		for i := range content {
			if len(c.Write([]byte{content[i]})) > 0 {
				at = i
				break
			}
		}
		if at == 0 || content[at] != '\n' || strings.Count(content[:at+1], "\n") > 2 {
			t.Errorf("%s: refused at byte %d of %q", path, at, content)
		}
	}
}

// TestWritingInPartsChangesNothing compares with the check of the whole.
func TestWritingInPartsChangesNothing(t *testing.T) {
	content := "dir: ab\n\tpath /x\n\nnfs: cd\n\tserver s\n"
	want, _ := Check("storage.cfg", []byte(content))
	c := NewChecker("storage.cfg")
	for i := range content {
		if early := c.Write([]byte{content[i]}); len(early) > 0 {
			t.Errorf("refused early: %v", early)
		}
	}
	got, _ := c.End()
	if len(got) != 1 || len(want) != 1 || got[0] != want[0] || got[0].Key != "export" && got[0].Key != "path" {
		t.Errorf("%v; want %v", got, want)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("storage.cfg", "dir: a\n\tpath /x\n", 3)
	f.Add("user.cfg", "user:a@pve:1\nacl:1:/:a@pve:NoAccess:\n", 5)
	f.Add("firewall/100.fw", "[RULES]\nIN ACCEPT\n", 1)
	f.Add("datacenter.cfg", "crs: ha=basic\n", 9)
	f.Add("nodes/n/lxc/1.conf", "arch: amd64\n", 2)
	f.Add("power/1", "running\n", 2)
	f.Fuzz(func(t *testing.T, path, content string, cut int) {
		refused, _ := Check(path, []byte(content))
		for _, e := range refused {
			if e.Message == "" || e.File != path {
				t.Fatalf("no reason or file: %+v", e)
			}
		}
		c := NewChecker(path)
		var early []text.Error
		at := min(max(cut, 0), len(content))
		for _, part := range []string{content[:at], content[at:]} {
			early = append(early, c.Write([]byte(part))...)
		}
		again, _ := c.End()
		if len(again) != len(refused) {
			t.Fatalf("in parts %v; whole %v", again, refused)
		}
		if len(early) > 0 && len(refused) == 0 {
			t.Fatalf("refused early only: %v", early)
		}
	})
}
