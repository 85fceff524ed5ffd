package cmdline_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/confidential"
	"etcpve/fixtures/golden"
)

// TestCorpusKeepsTheLayout compares what we make of every configuration of the
// corpus with the command line it is known by: each device, object and CPU has
// to be there with the same properties at the same place, so that a guest finds
// its hardware where it was. What differs on purpose is in normal.
func TestCorpusKeepsTheLayout(t *testing.T) {
	type corpusCase struct {
		Name, Config string
		Command      *string
		Vendor       string  `json:"host_cpu_vendor"`
		Arch         string  `json:"host_arch"`
		Hardware     *string `json:"hw_capabilities"`
	}
	dir := filepath.Join(golden.Dir(t, "qemu-config"), "corpus")
	for _, c := range golden.Cases[corpusCase](t, "qemu-config", "corpus") {
		if c.Command == nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, c.Config))
		if err != nil {
			t.Fatal(err)
		}
		known, err := os.ReadFile(filepath.Join(dir, *c.Command))
		if err != nil {
			t.Fatal(err)
		}
		host, volume := plain()
		host.QEMU, host.KVM, host.VhostNet, host.Arch, host.CPUVendor, host.CDROM = cmdline.Version{Major: 11}, true, true, c.Arch, c.Vendor, "/dev/cdrom"
		host.Bridge = func(name string) (int, bool) {
			return map[bool]int{true: 1450, false: 1500}[name == "vxlan_bridge"], true
		}
		host.Models = map[string]cmdline.Options{
			"alldefault": {}, "qemu64": {"reported-model": "athlon", "flags": "+aes;+avx;-kvm_pv_unhalt", "phys-bits": "40", "hv-vendor-id": "testvend"},
		}
		host.Functions = func(address string) []string {
			return map[string][]string{"0000:f0:43": {"0000:f0:43.0", "0000:f0:43.1"}, "1234:f0:43": {"1234:f0:43.1"}}[address]
		}
		if c.Hardware != nil {
			host.Encryption = confidential.Encryption{CBit: 51, ReducedBits: 6, SEV: true, ES: true, SNP: true}
		}
		command, err := cmdline.Build(cmdline.Guest{VMID: 8006, Config: mainSection(string(text)), Volume: volume}, host)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		args := unjoin(string(known))
		old := slices.Contains(args, "-drive") // which says in one option what -blockdev says in several
		ours, theirs := layout(command.Args, old), layout(args, old)
		for _, d := range difference(theirs, ours) {
			t.Errorf("%s: missing  %s", c.Name, d)
		}
		for _, d := range difference(ours, theirs) {
			t.Errorf("%s: too much %s", c.Name, d)
		}
	}
}

// unjoin cuts a command line written one option to a line.
func unjoin(text string) (args []string) {
	for line := range strings.Lines(text) {
		option, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), " \\"), " ")
		args = append(args, option)
		if value != "" {
			args = append(args, strings.Trim(value, "'"))
		}
	}
	return args
}

// compared are the options whose arguments make the machine.
var compared = []string{"-device", "-object", "-smp", "-m", "-numa", "-cpu", "-global", "-rtc", "-machine", "-boot", "-blockdev", "-smbios", "-chardev", "-k", "-bios"}

// layout returns the compared options, each with its properties in order.
func layout(args []string, old bool) (out []string) {
	for i, arg := range args {
		if slices.Contains(compared, arg) && i+1 < len(args) {
			text := normal(arg, args[i+1])
			if old {
				text = withoutBlock(arg, text)
			}
			if text != "" {
				out = append(out, arg+" "+text)
			}
		}
	}
	return out
}

// withoutBlock leaves out what says where the bytes of a disk are.
func withoutBlock(option, text string) string {
	if option == "-blockdev" || strings.Contains(text, "throttle-group") {
		return ""
	}
	props := slices.DeleteFunc(strings.Split(text, ","), func(p string) bool {
		key, _, _ := strings.Cut(p, "=")
		return slices.Contains([]string{"drive", "device_id", "write-cache", "pflash0", "pflash1"}, key)
	})
	return strings.Join(props, ",")
}

var machineLevel = regexp.MustCompile(`\+pve\d+`)

// chassis are the parts of a q35 that a file brings along.
var chassis = regexp.MustCompile(`id=(ehci|ehci-2|uhci-[1-6]|ich9-pcie-port-[1-4]|pcidmi|pci\.[0-2])(,|$).*(pcie\.0|pcidmi)`)

func normal(option, text string) string {
	if strings.HasPrefix(text, "{") {
		return normalJSON(text)
	}
	props := strings.Split(text, ",")
	driver := props[0]
	switch {
	case option == "-machine" || option == "-boot":
		driver = ""
	case option == "-chardev" && (strings.HasPrefix(text, "socket,id=qmp") || strings.HasPrefix(text, "socket,id=serial")):
		return ""
	case option == "-device" && (chassis.MatchString(text) || strings.HasPrefix(text, "ahci,id=ide,")):
		return "" // the latter: an aarch64 machine has no IDE to put ide2 on
	case option == "-bios":
		return filepath.Base(text)
	}
	text = strings.NewReplacer("prealloc=yes", "prealloc=on").Replace(text)
	props = strings.Split(text, ",")
	if option == "-machine" || option == "-boot" {
		props = append([]string{""}, props...)
	}
	props = slices.DeleteFunc(slices.Clone(props[1:]), func(p string) bool {
		key, _, _ := strings.Cut(p, "=")
		return slices.Contains([]string{"host_tunnel", "splash", "path", "server", "wait"}, key) || p == "accel=kvm" || p == "id=rng0" && driver == "virtio-rng-pci"
	})
	for i, p := range props {
		p = machineLevel.ReplaceAllString(p, "")
		key, value, _ := strings.Cut(p, "=")
		if key == "addr" && !strings.HasPrefix(value, "0x") {
			value = "0x" + strings.Replace(value, ".", ".0x", 1)
		}
		if key == "addr" && value == "0x10.0" || value == "0x10.1" {
			value = strings.Replace(value, ".", ".0x", 1)
		}
		props[i] = key + "=" + value
	}
	slices.Sort(props)
	return driver + "," + strings.Join(props, ",")
}

// normalJSON drops what names files and inner nodes: how a volume is found is
// not what a guest sees.
func normalJSON(text string) string {
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return text
	}
	if v["node-name"] == "pflash0" {
		return "pflash0"
	}
	if file, ok := v["file"].(map[string]any); ok && v["driver"] == "throttle" {
		delete(file, "backing")
		delete(file, "discard-no-unref")
		v["file"] = map[string]any{"cache": file["cache"], "size": file["size"], "discard": file["discard"], "detect-zeroes": file["detect-zeroes"], "read-only": file["read-only"]}
	}
	out, _ := json.Marshal(v)
	return string(out)
}

func difference(a, b []string) (only []string) {
	b = slices.Clone(b)
	for _, x := range a {
		if i := slices.Index(b, x); i >= 0 {
			b = slices.Delete(b, i, i+1)
		} else {
			only = append(only, x)
		}
	}
	return only
}
