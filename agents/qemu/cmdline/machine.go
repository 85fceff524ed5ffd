package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/confidential"
	"etcpve/agents/qemu/machine"
	"etcpve/agents/qemu/qdev"
)

// A Version is that of a QEMU or of a machine type.
type Version = machine.Version

// oldest is the QEMU below which the command line is not understood.
var oldest = Version{Major: 6}

// board settles which machine the guest gets from this QEMU.
func (b *builder) board() (err error) {
	if !b.host.QEMU.AtLeast(oldest.Major, oldest.Minor) {
		return fmt.Errorf("QEMU %s is too old, at least %s is needed", b.host.QEMU, oldest)
	}
	if b.machine, b.machineOptions, err = b.config.MachineType(b.config.IsARM(b.host.Arch), b.host.Node); err != nil {
		return err
	}
	name, newer := b.machine.Name(b.host.QEMU)
	if newer {
		b.warn("machine", fmt.Sprintf("version %s is newer than QEMU %s, which uses its own newest", b.machine.Version, b.host.QEMU))
	}
	b.machineName = name
	return nil
}

// confidential is how the guest wants its memory encrypted.
func (b *builder) confidential() (confidential.Guest, error) {
	sev, err := b.config.Options("amd-sev", "type")
	if err != nil {
		return confidential.Guest{}, err
	}
	tdx, err := b.config.Options("intel-tdx", "type")
	return confidential.Guest{SEV: sev, TDX: tdx, UEFI: b.config["bios"] == "ovmf", Q35: b.machine.Q35}, err
}

// encryption adds the object that encrypts the guest's memory.
func (b *builder) encryption() (id string, err error) {
	g, err := b.confidential()
	if err != nil {
		return "", err
	}
	can := b.host.Encryption
	if !b.kvm() {
		can = confidential.Encryption{} // it is KVM's to do
	}
	id, arg, key, err := confidential.Object(g, can)
	if err != nil {
		return "", &KeyError{Key: key, Err: err}
	}
	if arg != "" {
		b.arg("-object", arg)
	}
	return id, nil
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
	if !b.machine.ARM && (b.config.Windows() > 0 || b.config["ostype"] == "l26" && b.machine.Pinned(8, 0)) {
		o = append(o, "hpet=off")
	}
	if !b.config.Bool("acpi", true) {
		o = append(o, "acpi=off")
	}
	o = append(o, "type="+b.machineName)
	if b.machineOptions["viommu"] == "intel" && b.kvm() {
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
	if b.machineOptions["viommu"] != kind {
		return nil
	}
	d := qdev.New("intel-iommu", "intremap", "on", "caching-mode", true)
	if kind == "virtio" {
		d = qdev.New("virtio-iommu-pci")
	}
	switch bits, err := strconv.Atoi(b.machineOptions["aw-bits"]); {
	case err != nil:
	case kind == "intel" || b.host.QEMU.AtLeast(9, 0):
		d = d.With("aw-bits", bits)
	default:
		b.warn("machine", "aw-bits of a virtio vIOMMU needs QEMU 9.0")
	}
	b.add(d)
	return nil
}
