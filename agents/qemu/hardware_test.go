package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// property reads a property of a device.
func (n *node) property(path, name string) (value any) {
	n.Helper()
	n.qmp("qom-get", map[string]any{"path": path, "property": name}, &value)
	return value
}

func TestRunningGuestTakesUSBBootOrderAndShares(t *testing.T) {
	n := newNode(t)
	base := []string{"memory: 64", "vga: qxl", "ostype: l26", "scsihw: virtio-scsi-pci", "scsi0: " + n.image("vm-100-disk-0.raw"), "net0: virtio=BC:24:11:00:00:01", "usb0: spice"}
	n.conf(append(base, "boot: order=scsi0;net0")...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	bootindex := func(id string) any { return n.property("/machine/peripheral/"+id, "bootindex") }
	if bootindex("scsi0") != 100.0 || bootindex("net0") != 101.0 {
		t.Errorf("boot order begins as %v, %v", bootindex("scsi0"), bootindex("net0"))
	}

	n.conf(append(base, "boot: order=net0", "tablet: 1", "usb3: spice", "usb13: host=1234:5678", "cpulimit: 0.5", "affinity: 0")...)
	n.await("tablet, usb3, usb13", func() bool {
		d := n.devices()
		return d["tablet"] && d["usbredirdev3"] && d["usb13"]
	})
	n.settled()
	if bootindex("scsi0") != -1.0 || bootindex("net0") != 100.0 {
		t.Errorf("boot order is %v, %v", bootindex("scsi0"), bootindex("net0"))
	}
	if status, err := os.ReadFile("/proc/" + n.status("pid") + "/status"); err != nil || !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
		t.Errorf("affinity: 0 is not in effect, %v", err)
	}
	quota := ""
	for _, file := range []string{"/sys/fs/cgroup/cpu/%s/100.scope/cpu.cfs_quota_us", "/sys/fs/cgroup/%s/100.scope/cpu.max"} {
		if content, err := os.ReadFile(fmt.Sprintf(file, n.slice())); err == nil {
			quota = string(content)
		}
	}
	if !strings.HasPrefix(quota, "50000") && n.status("error") == "" {
		t.Errorf("cpulimit: 0.5 gives the quota %q", quota)
	}

	n.conf(append(base[:len(base)-1], "boot: order=net0", "usb3: host=1-2", "usb13: host=1234:9999")...)
	n.await("usb0 and tablet to go, usb3 and usb13 to change", func() bool {
		d := n.devices()
		return !d["tablet"] && !d["usbredirdev0"] && !d["usbredirdev3"] && d["usb3"] && d["usb13"]
	})
	n.settled()
	if got := n.property("/machine/peripheral/usb13", "productid"); got != float64(0x9999) {
		t.Errorf("usb13 has the product %v", got)
	}
}

// firmwareGuest is one with UEFI, Secure Boot keys and a TPM.
func firmwareGuest(n *node) []string {
	for _, need := range []string{"/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "/usr/bin/swtpm"} {
		if _, err := os.Stat(need); err != nil {
			n.Skip(err)
		}
	}
	tpm := n.image("vm-100-disk-1.raw")
	n.must(os.Truncate(filepath.Join(n.images, "images/100/vm-100-disk-1.raw"), 4<<20))
	efi := n.image("vm-100-disk-0.raw")
	n.must(os.Truncate(filepath.Join(n.images, "images/100/vm-100-disk-0.raw"), 528<<10))
	return []string{
		"machine: q35", "memory: 256", "bios: ovmf", "vga: none", "serial0: socket", "startup: down=0",
		"efidisk0: " + efi + ",efitype=4m,pre-enrolled-keys=1", "tpmstate0: " + tpm + ",version=v2.0",
	}
}

func TestUEFIGuestKeepsItsVariablesAndItsTPM(t *testing.T) {
	n := newNode(t)
	n.conf(firmwareGuest(n)...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	c := n.console()
	var tpm []struct{ Model string }
	n.qmp("query-tpm", nil, &tpm)
	if len(tpm) != 1 || tpm[0].Model != "tpm-tis" {
		t.Errorf("TPM %v", tpm)
	}
	n.power(Running)
	n.awaitLine(c, "BdsDxe: ") // the firmware looks for something to boot
	variables := n.content("vm-100-disk-0.raw")
	template, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	n.must(err)
	if variables == string(make([]byte, len(variables))) || variables == string(template) {
		t.Error("the firmware has written no variables")
	}
	if !strings.Contains(variables, "M\x00i\x00c\x00r\x00o\x00s\x00o\x00f\x00t\x00") && !strings.Contains(variables, "Microsoft") {
		t.Error("Microsoft's keys are not enrolled")
	}
	n.power(Stopped)
	n.awaitStatus("guest", "stopped")
	if left, _ := filepath.Glob(filepath.Join(n.run, "100.swtpm*")); len(left) > 1 || len(left) == 1 && !strings.HasSuffix(left[0], ".log") {
		t.Errorf("left behind: %v", left)
	}
	state := n.content("vm-100-disk-1.raw")
	if strings.Trim(state, "\x00") == "" {
		t.Error("the TPM has no state")
	}
	n.power(Paused)
	n.awaitStatus("guest", "paused")
	if again := n.content("vm-100-disk-0.raw"); len(again) != len(variables) || again == string(template) {
		t.Error("the variables were made anew")
	}
}

func (n *node) content(image string) string {
	n.Helper()
	content, err := os.ReadFile(filepath.Join(n.images, "images/100", image))
	n.must(err)
	return string(content)
}

func TestOtherArchitectureRunsBesides(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-aarch64"); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/usr/share/AAVMF/AAVMF_CODE.fd"); err != nil {
		t.Skip(err)
	}
	n := newNode(t)
	n.conf("arch: aarch64", "bios: ovmf", "memory: 128", "vga: none", "scsihw: virtio-scsi-pci", "scsi0: "+n.image("vm-100-disk-0.raw"), "serial0: socket")
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	var target struct{ Arch string }
	n.qmp("query-target", nil, &target)
	if target.Arch != "aarch64" || !strings.Contains(n.status("accel"), "not of the node's kind") {
		t.Errorf("a guest for %s, %s", target.Arch, n.status("accel"))
	}
}

func TestLinuxGuestGivesCPUsAndMemoryBack(t *testing.T) {
	n := newNode(t)
	kernel := linux(t)
	lines := func(vcpus, memory string) []string {
		return []string{"vga: none", "cores: 3", "vcpus: " + vcpus, "numa: 1", "memory: " + memory, "hotplug: cpu,memory,disk", "serial0: socket", kernel}
	}
	n.conf(lines("1", "1024")...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	c := n.console()
	n.power(Running)
	n.awaitLine(c, "guest ready")
	n.conf(lines("3", "2048")...)
	n.await("two more CPUs and DIMMs", func() bool { d := n.devices(); return d["cpu3"] && d["dimm1"] })
	n.settled()
	n.conf(lines("2", "1536")...)
	n.await("one CPU and one DIMM to go", func() bool {
		d := n.devices()
		return d["cpu2"] && !d["cpu3"] && d["dimm0"] && !d["dimm1"]
	})
	n.settled()
}
