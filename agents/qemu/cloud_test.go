package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCloudInitDriveIsMadeAtStartAndAnewWhileTheGuestRuns(t *testing.T) {
	n := newNode(t)
	drive := "ide2: " + n.image("vm-100-cloudinit.raw") + ",media=cdrom"
	base := append(small, drive, "name: web", "net0: virtio=BC:24:11:00:00:01", "ipconfig0: ip=10.0.0.5/24")
	holds := func(text string) bool { return strings.Contains(n.content("vm-100-cloudinit.raw"), text) }
	kept := func() string {
		content, err := os.ReadFile(filepath.Join(n.tree, "nodes/n1/qemu-server/100.conf"))
		n.must(err)
		_, section, _ := strings.Cut(string(content), "[special:cloudinit]\n")
		return strings.ReplaceAll(strings.TrimSpace(section), "\n", ", ")
	}
	n.conf(append(base, "ciuser: ann")...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	n.settled()
	if !holds(`user: "ann"`) || !holds("address: '10.0.0.5'") || !holds("CD001") {
		t.Error("the drive does not have the configuration")
	}
	if got := kept(); got != "ciuser: ann, ipconfig0: ip=10.0.0.5/24, name: web" {
		t.Errorf("[special:cloudinit] has %q", got)
	}

	n.conf(append(base, "ciuser: bob", "nameserver: 1.1.1.1")...)
	n.awaitStatus("pending", "ciuser: the cloud-init drive is made anew at the next start; nameserver: the cloud-init drive is made anew at the next start")
	n.conf(append(base, "ciuser: bob", "nameserver: 1.1.1.1", "hotplug: cloudinit,disk")...)
	n.await("the new drive", func() bool { return holds(`user: "bob"`) && holds("'1.1.1.1'") })
	n.settled()
	if b := n.block("ide2"); b.Inserted == nil || b.TrayOpen {
		t.Errorf("the drive is %+v", b)
	}
	if got := kept(); got != "ciuser: bob, ipconfig0: ip=10.0.0.5/24, name: web, nameserver: 1.1.1.1" {
		t.Errorf("[special:cloudinit] has %q", got)
	}
}
