package cmdline

import (
	"fmt"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/pcibus"
	"etcpve/agents/qemu/qdev"
)

// pci returns the bus and addr properties of a device, adding the bridge the
// bus needs.
func (b *builder) pci(id string) ([]any, error) {
	at, ok := pcibus.Of(id)
	if !ok {
		return nil, config.Errorf(id, "no PCI address is set aside for it")
	}
	if at.Bus > 2 && !b.buses[at.Bus] {
		b.buses[at.Bus] = true
		d, err := b.bridge(at.Bus)
		if err != nil {
			return nil, err
		}
		b.add(d)
	}
	return b.place(at), nil
}

// place names a slot. The first bus of an aarch64 machine is PCI Express.
func (b *builder) place(at pcibus.Place) []any {
	bus := at.String()
	if b.machine.ARM && at.Bus == 0 {
		bus = "pcie.0"
	}
	return []any{"bus", bus, "addr", at.Addr()}
}

func (b *builder) bridge(n int) (qdev.Device, error) {
	id := pcibus.Place{Bus: n}.String()
	at, err := b.pci(id)
	return qdev.New("pci-bridge", "id", id, "chassis_nr", n).With(at...), err
}

// bridges adds the buses every machine has, and the one for the controllers of
// virtio-scsi-single, which must be there before a disk can be hot-plugged. A
// q35 gets them, with root ports and USB controllers, below its PCI Express root.
func (b *builder) bridges() error {
	if err := b.baseBridges(); err != nil {
		return err
	}
	if b.config["scsihw"] != "virtio-scsi-single" {
		return nil
	}
	_, err := b.pci("virtioscsi0")
	return err
}

func (b *builder) baseBridges() error {
	if !b.machine.Q35 {
		for n := 1; n <= 2; n++ {
			d, err := b.bridge(n)
			if err != nil {
				return err
			}
			b.add(d)
		}
		return nil
	}
	b.usb2("0x1d", "ehci", "ich9-usb-ehci1", 1)
	b.usb2("0x1a", "ehci-2", "ich9-usb-ehci2", 4)
	for n := 1; n <= 4; n++ {
		b.rootPort(n, fmt.Sprintf("0x1c.0x%x", n-1))
	}
	b.add(qdev.New("i82801b11-bridge", "id", "pcidmi", "bus", "pcie.0", "addr", "0x1e"))
	for n := range 3 {
		b.add(qdev.New("pci-bridge", "id", pcibus.Place{Bus: n}.String(), "bus", "pcidmi",
			"addr", fmt.Sprintf("0x%x", n+1), "chassis_nr", 0x10+n))
	}
	return nil
}

func (b *builder) rootPort(n int, addr string) {
	b.add(qdev.New("pcie-root-port", "id", fmt.Sprintf("ich9-pcie-port-%d", n), "bus", "pcie.0", "addr", addr,
		"x-speed", "16", "x-width", "32", "multifunction", true, "port", n, "chassis", n))
}

// usb2 adds an EHCI controller with the three companions that serve slower
// devices on its ports; first is the number of the first companion.
func (b *builder) usb2(slot, id, driver string, first int) {
	bus := "pci.0"
	if b.machine.Q35 {
		bus = "pcie.0"
	}
	b.add(qdev.New(driver, "id", id, "bus", bus, "addr", slot+".0x7", "multifunction", true))
	for i := range 3 {
		b.add(qdev.New(fmt.Sprintf("ich9-usb-uhci%d", first+i), "id", fmt.Sprintf("uhci-%d", first+i), "bus", bus,
			"addr", fmt.Sprintf("%s.0x%x", slot, i), "multifunction", true, "masterbus", id+".0", "firstport", 2*i))
	}
}
