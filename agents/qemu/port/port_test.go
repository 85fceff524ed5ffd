package port

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/host/hosttest"
	"etcpve/agents/qemu/cmdline"
)

// inNamespace runs the calling test again in a network of its own, with the
// bridges vmbr0 and vmbr1 (MTU 1400), and reports whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("PORT_TEST_NAMESPACE") != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--net", "--mount", "sh", "-ec",
		`mount -t sysfs sysfs /sys; ip link add vmbr0 type bridge; ip link add vmbr1 mtu 1400 type bridge; exec "$0" "-test.run=^$1\$"`, self, t.Name())
	cmd.Env = append(os.Environ(), "PORT_TEST_NAMESPACE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := host.System{}.Run(t.Context(), host.Command{Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// links shows the links of the node as "name<bridge mtu", those of a test only.
func links(t *testing.T) string {
	t.Helper()
	var out []string
	all, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range all {
		name := filepath.Base(link)
		if name == "lo" || strings.HasPrefix(name, "vmbr") {
			continue
		}
		master, _ := os.Readlink(filepath.Join(link, "master"))
		mtu, err := os.ReadFile(filepath.Join(link, "mtu"))
		if err != nil {
			t.Fatal(err)
		}
		if master != "" {
			name += "<" + filepath.Base(master)
		}
		out = append(out, name+" "+strings.TrimSpace(string(mtu)))
	}
	return strings.Join(out, ", ")
}

func TestTapGoesThroughItsFirewallBridge(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := New()
	sh(t, "ip", "tuntap", "add", "tap100i1", "mode", "tap")
	for _, c := range []struct {
		name string
		tap  cmdline.Tap
		want string
	}{
		{"plain", cmdline.Tap{Bridge: "vmbr0"}, "tap100i1<vmbr0 1500"},
		{"firewall", cmdline.Tap{Bridge: "vmbr1", Firewall: true}, "fwbr100i1 1400, fwln100i1<fwbr100i1 1400, fwpr100p1<vmbr1 1400, tap100i1<fwbr100i1 1400"},
		{"the same again", cmdline.Tap{Bridge: "vmbr1", Firewall: true}, "fwbr100i1 1400, fwln100i1<fwbr100i1 1400, fwpr100p1<vmbr1 1400, tap100i1<fwbr100i1 1400"},
		{"firewall off", cmdline.Tap{Bridge: "vmbr0"}, "tap100i1<vmbr0 1500"},
		{"rate", cmdline.Tap{Bridge: "vmbr0", Rate: 3 << 20}, "ifb100i1 1500, tap100i1<vmbr0 1500"},
		{"rate and firewall", cmdline.Tap{Bridge: "vmbr0", Rate: 1 << 20, Firewall: true},
			"fwbr100i1 1500, fwln100i1<fwbr100i1 1500, fwpr100p1<vmbr0 1500, ifb100i1 1500, tap100i1<fwbr100i1 1500"},
	} {
		c.tap.Name = "tap100i1"
		if err := b.Plug(t.Context(), c.tap); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := links(t); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	for _, link := range []string{"tap100i1", "ifb100i1"} {
		if got := sh(t, "tc", "class", "show", "dev", link); !strings.Contains(got, "rate 8388Kbit") {
			t.Errorf("%s has %s", link, got)
		}
	}
	if err := b.Plug(t.Context(), cmdline.Tap{Name: "tap100i1", Bridge: "vmbr9"}); err == nil || !strings.Contains(err.Error(), "bridge 'vmbr9' does not exist") {
		t.Errorf("a bridge that is not there: %v", err)
	}
	sh(t, "ip", "link", "delete", "tap100i1")
	for range 2 {
		if err := b.Unplug(t.Context(), "tap100i1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := links(t); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// sysfs makes a tree that shows links, each file with its content.
func sysfs(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVLANsAreSetWhereTheBridgeFiltersElseOnABridgeOfTheirOwn(t *testing.T) {
	filtering := map[string]string{"vmbr0/bridge/vlan_filtering": "1", "vmbr0/mtu": "1500"}
	simple := map[string]string{"vmbr0/bridge/vlan_filtering": "0", "vmbr0/mtu": "1500", "vmbr0/brif/eth0/x": "", "vmbr0/brif/tap9i0/x": "", "vmbr0v20/mtu": "1500"}
	const end = `
$ tc qdisc del dev tap100i0 root
= 2
$ tc qdisc del dev tap100i0 ingress
= 2
`
	for _, c := range []struct {
		name       string
		sys        map[string]string
		tap        cmdline.Tap
		transcript string
		fails      string
	}{
		{"tag", filtering, cmdline.Tap{Tag: 20}, `
$ ip link set dev tap100i0 master vmbr0 mtu 1500 up
$ bridge vlan del dev tap100i0 vid 1-4094
$ bridge vlan add dev tap100i0 vid 20 pvid untagged` + end, ""},
		{"trunks", filtering, cmdline.Tap{Tag: 20, Trunks: "20;30;40-50"}, `
$ ip link set dev tap100i0 master vmbr0 mtu 1500 up
$ bridge vlan del dev tap100i0 vid 1-4094
$ bridge vlan add dev tap100i0 vid 20 pvid untagged
$ bridge vlan add dev tap100i0 vid 30
$ bridge vlan add dev tap100i0 vid 40-50` + end, ""},
		{"neither", filtering, cmdline.Tap{}, `
$ ip link set dev tap100i0 master vmbr0 mtu 1500 up
$ bridge vlan del dev tap100i0 vid 1-4094
$ bridge vlan add dev tap100i0 vid 1 pvid untagged
$ bridge vlan add dev tap100i0 vid 2-4094` + end, ""},
		{"tag on a simple bridge", simple, cmdline.Tap{Tag: 20}, `
$ ip link add link eth0 name eth0.20 type vlan id 20
$ ip link set dev eth0.20 master vmbr0v20 up
$ ip link set dev vmbr0v20 up
$ ip link set dev tap100i0 master vmbr0v20 mtu 1500 up` + end, ""},
		{"trunks on a simple bridge", simple, cmdline.Tap{Trunks: "5"}, "", "bridge 'vmbr0' does not filter VLANs, trunks cannot be set"},
		{"tag on a bridge without a port", map[string]string{"vmbr0/bridge/vlan_filtering": "0"}, cmdline.Tap{Tag: 5}, "",
			"bridge 'vmbr0' neither filters VLANs nor has a physical port, tag 5 cannot be set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.tap.Name, c.tap.Bridge = "tap100i0", "vmbr0"
			b := Bridges{Runner: hosttest.New(t, c.transcript), Sys: sysfs(t, c.sys)}
			err := b.Plug(t.Context(), c.tap)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || err.Error() != c.fails) {
				t.Errorf("%v, want %q", err, c.fails)
			}
		})
	}
}
