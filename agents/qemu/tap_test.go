package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/qemu/port"
)

// inNamespace runs the calling test again in a network of its own and reports
// whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("QEMU_TEST_NAMESPACE") != "" {
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
	cmd.Env = append(os.Environ(), "QEMU_TEST_NAMESPACE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func TestTapsBecomePortsOfTheirBridges(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNode(t)
	n.conf(append(small, "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0", "net1: e1000=BC:24:11:00:00:02,bridge=vmbr9")...)
	n.power(Running)
	n.ports = port.New()
	n.begin()
	n.await("the error", func() bool { return strings.Contains(n.status("error"), "net1: bridge 'vmbr9' does not exist") })
	bridgeOf := func(tap string) string {
		bridge, _ := os.Readlink(filepath.Join("/sys/class/net", tap, "master"))
		return filepath.Base(bridge)
	}
	n.conf(append(small, "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0")...)
	n.awaitStatus("guest", "running")
	if got := bridgeOf("tap100i0"); got != "vmbr0" {
		t.Errorf("tap100i0 is a port of %q", got)
	}
	n.conf(append(small, "net0: virtio=BC:24:11:00:00:01,bridge=vmbr1", "net2: virtio=BC:24:11:00:00:03,bridge=vmbr0")...)
	n.await("the ports", func() bool { return bridgeOf("tap100i0") == "vmbr1" && bridgeOf("tap100i2") == "vmbr0" })
	n.settled()

	// The firewall goes on and a rate comes while the guest runs, and nothing is left of it.
	n.conf(append(small, "startup: down=0", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr1,firewall=1,rate=2", "net2: virtio=BC:24:11:00:00:03,bridge=vmbr0")...)
	n.await("the firewall bridge", func() bool {
		return bridgeOf("tap100i0") == "fwbr100i0" && bridgeOf("fwln100i0") == "fwbr100i0" && bridgeOf("fwpr100p0") == "vmbr1"
	})
	n.settled()
	if _, err := os.Stat("/sys/class/net/ifb100i0"); err != nil {
		t.Error(err)
	}
	n.power(Stopped)
	n.awaitStatus("guest", "stopped")
	left, _ := filepath.Glob("/sys/class/net/*100[ip]*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
