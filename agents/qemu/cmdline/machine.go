package cmdline

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"etcpve/agents/qemu/qdev"
)

// A Version is that of a QEMU or of a machine type.
type Version struct{ Major, Minor int }

// AtLeast compares versions.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// String is the version as machine types have it.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// latest stands for an unversioned machine type: everything new applies.
var latest = Version{Major: 1 << 16}

// A machine is a parsed machine type.
type machine struct {
	q35     bool
	arm     bool    // of aarch64: virt
	version Version // what the guest was pinned to, else latest
	pxe     bool
	options Options
	name    string // as this QEMU knows it
}

// pinned reports whether what came with a version applies to the guest.
func (m machine) pinned(major, minor int) bool { return m.version.AtLeast(major, minor) }

var machineTypes = map[bool]*regexp.Regexp{
	false: regexp.MustCompile(`^(pc-i440fx|pc-q35|pc|q35)(?:-(\d+)\.(\d+)(?:\.\d+)*)?(?:\+pve(\d+))?(\.pxe)?$`),
	true:  regexp.MustCompile(`^(virt)(?:-(\d+)\.(\d+)(?:\.\d+)*)?(?:\+pve(\d+))?(\.pxe)?$`),
}

// windowsPin is the machine version of a Windows guest that names none: Windows
// takes a newer one for other hardware.
var windowsPin = Version{5, 1}

// featureLevels are the highest +pveN of the machine versions that have any.
var featureLevels = map[Version]int{{4, 1}: 2, {9, 2}: 1, {10, 0}: 1, {10, 1}: 2, {10, 2}: 2, {11, 0}: 2}

// isARM reports whether a guest is for aarch64, on a node that is or is not.
func (c Config) isARM(node string) bool {
	return c["arch"] == "aarch64" || c["arch"] == "" && node == "aarch64"
}

// machine parses the machine type of a guest.
func (c Config) machine(arm bool) (machine, error) {
	o, err := c.Options("machine", "type")
	if err != nil {
		return machine{}, err
	}
	name := o["type"]
	if name == "" {
		name = map[bool]string{true: "virt", false: "pc"}[arm]
	}
	parts := machineTypes[arm].FindStringSubmatch(name)
	switch {
	case parts == nil && arm:
		return machine{}, keyErr("machine", "type %q of an aarch64 guest is neither virt nor virt-N.M", name)
	case parts == nil:
		return machine{}, keyErr("machine", "type %q is not one of pc, q35, pc-i440fx-N.M, pc-q35-N.M", name)
	}
	m := machine{q35: strings.HasSuffix(parts[1], "q35"), arm: arm, version: latest, pxe: parts[5] != "", options: o}
	switch {
	case parts[2] != "":
		m.version = versionOf(parts[2], parts[3])
	case c.windows() > 0:
		m.version = c.windowsVersion()
	}
	if level, _ := strconv.Atoi(parts[4]); level > featureLevels[m.version] && m.version != latest {
		return m, keyErr("machine", "type %s: the highest feature level of %s is pve%d", name, m.version, featureLevels[m.version])
	}
	return m, m.check()
}

func (m machine) check() error {
	viommu := m.options["viommu"]
	switch {
	case viommu == "intel" && !m.q35:
		return keyErr("machine", "to use Intel vIOMMU please set the machine type to q35")
	case viommu == "" && m.options["aw-bits"] != "":
		return keyErr("machine", "cannot set aw-bits if no vIOMMU is configured")
	}
	return nil
}

func (c Config) windowsVersion() Version {
	if meta, err := c.Options("meta", ""); err == nil {
		if major, rest, ok := strings.Cut(meta["creation-qemu"], "."); ok {
			minor, _, _ := strings.Cut(rest, ".")
			if v := versionOf(major, minor); v.AtLeast(windowsPin.Major, windowsPin.Minor) {
				return v
			}
		}
	}
	return windowsPin
}

func versionOf(major, minor string) Version {
	var v Version
	v.Major, _ = strconv.Atoi(major) // the pattern lets only digits through
	v.Minor, _ = strconv.Atoi(minor)
	return v
}

// knownMachine returns the type under the name this QEMU has for it. A version
// from the future of this QEMU becomes its newest.
func (b *builder) knownMachine(m machine) string {
	family := map[bool][2]string{true: {"q35", "pc-q35-"}, false: {"pc", "pc-i440fx-"}}[m.q35]
	if m.arm {
		family = [2]string{"virt", "virt-"}
	}
	switch {
	case m.version == latest:
		return family[0]
	case !b.host.QEMU.AtLeast(m.version.Major, m.version.Minor):
		b.warn("machine", fmt.Sprintf("version %s is newer than QEMU %s, which uses its own newest", m.version, b.host.QEMU))
		return family[1] + b.host.QEMU.String()
	}
	return family[1] + m.version.String()
}

// machineOption says what only -machine can.
func (b *builder) machineOption() error {
	var o []string
	if b.has["pflash"] {
		o = append(o, "pflash0=pflash0", "pflash1=drive-efidisk0")
	}
	if !b.kvm() {
		o = append(o, "accel=tcg")
	} else {
		o = append(o, "accel=kvm")
	}
	if !b.machine.arm && (b.config.windows() > 0 || b.config["ostype"] == "l26" && b.machine.pinned(8, 0)) {
		o = append(o, "hpet=off")
	}
	if !b.config.Bool("acpi", true) {
		o = append(o, "acpi=off")
	}
	o = append(o, "type="+b.machine.name)
	if b.machine.options["viommu"] == "intel" && b.kvm() {
		o = append(o, "kernel-irqchip=split")
	}
	if b.shared() && !b.config.Bool("numa", false) {
		o = append(o, "memory-backend=guest-memory")
	}
	switch id, err := b.encryption(); {
	case err != nil:
		return err
	case id != "":
		o = append(o, "confidential-guest-support="+id)
	}
	b.arg("-machine", strings.Join(o, ","))
	return b.iommu("virtio")
}

func (b *builder) iommu(kind string) error {
	if b.machine.options["viommu"] != kind {
		return nil
	}
	d := qdev.New("intel-iommu", "intremap", "on", "caching-mode", true)
	if kind == "virtio" {
		d = qdev.New("virtio-iommu-pci")
	}
	switch bits, err := strconv.Atoi(b.machine.options["aw-bits"]); {
	case err != nil:
	case kind == "intel" || b.host.QEMU.AtLeast(9, 0):
		d = d.With("aw-bits", bits)
	default:
		b.warn("machine", "aw-bits of a virtio vIOMMU needs QEMU 9.0")
	}
	b.add(d)
	return nil
}
