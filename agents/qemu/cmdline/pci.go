package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/qdev"
)

// An address is a place on one of the guest's PCI buses.
type address struct{ bus, slot int }

// slots are the places of devices that exist once. Numbered devices follow
// their row in ranges.
var slots = map[string]address{
	"vga": {0, 0x02}, "balloon0": {0, 0x03}, "watchdog": {0, 0x04},
	"scsihw0": {0, 0x05}, "pci.3": {0, 0x05}, "scsihw1": {0, 0x06}, "ahci0": {0, 0x07}, "qga0": {0, 0x08}, "spice": {0, 0x09},
	"ehci": {0, 0x1d}, "pci.1": {0, 0x1e}, "pci.2": {0, 0x1f},
	"xhci": {1, 0x1b}, "pci.4": {1, 0x1c}, "rng0": {1, 0x1d},
	"ivshmem": {2, 0x0b}, "audio0": {2, 0x0c},
}

// ranges are the places of numbered devices: those from first on lie at
// consecutive slots beginning with at.
var ranges = []struct {
	prefix      string
	first, last int
	at          address
}{
	{"virtio", 0, 5, address{0, 0x0a}}, {"virtio", 6, 15, address{2, 0x01}},
	{"hostpci", 0, 1, address{0, 0x10}}, {"hostpci", 2, 3, address{0, 0x1b}}, {"hostpci", 4, 15, address{2, 0x0d}},
	{"net", 0, 5, address{0, 0x12}}, {"net", 6, 31, address{1, 0x01}},
	{"vga", 1, 3, address{0, 0x18}},
	{"virtioscsi", 0, 30, address{3, 0x01}},
	{"scsihw", 2, 4, address{4, 0x01}},
}

// slotOf returns the place of a device.
func slotOf(id string) (address, bool) {
	if a, ok := slots[id]; ok {
		return a, true
	}
	for _, r := range ranges {
		if n, ok := Index(id, r.prefix); ok && n >= r.first && n <= r.last {
			return address{r.at.bus, r.at.slot + n - r.first}, true
		}
	}
	return address{}, false
}

// pci returns the bus and addr properties of a device, adding the bridge the
// bus needs.
func (b *builder) pci(id string) ([]any, error) {
	a, ok := slotOf(id)
	if !ok {
		return nil, keyErr(id, "no PCI address is set aside for it")
	}
	if a.bus > 2 && !b.buses[a.bus] {
		b.buses[a.bus] = true
		d, err := b.bridge(a.bus)
		if err != nil {
			return nil, err
		}
		b.add(d)
	}
	return place(a), nil
}

func place(a address) []any {
	return []any{"bus", fmt.Sprintf("pci.%d", a.bus), "addr", fmt.Sprintf("0x%x", a.slot)}
}

func (b *builder) bridge(n int) (qdev.Device, error) {
	id := fmt.Sprintf("pci.%d", n)
	at, err := b.pci(id)
	return qdev.New("pci-bridge", "id", id, "chassis_nr", n).With(at...), err
}

// bridges adds the buses every machine has, and the one for the controllers of
// virtio-scsi-single, which must be there before a disk can be hot-plugged. A
// q35 gets them, with root ports and USB controllers, below its PCI Express root.
func (b *builder) bridges() error {
	b.baseBridges()
	if b.config["scsihw"] != "virtio-scsi-single" {
		return nil
	}
	_, err := b.pci("virtioscsi0")
	return err
}

func (b *builder) baseBridges() {
	if !b.machine.q35 {
		for n := 1; n <= 2; n++ {
			a := slots[fmt.Sprintf("pci.%d", n)]
			b.add(qdev.New("pci-bridge", "id", fmt.Sprintf("pci.%d", n), "chassis_nr", n).With(place(a)...))
		}
		return
	}
	b.usb2("0x1d", "ehci", "ich9-usb-ehci1", 1)
	b.usb2("0x1a", "ehci-2", "ich9-usb-ehci2", 4)
	for n := 1; n <= 4; n++ {
		b.rootPort(n, fmt.Sprintf("0x1c.0x%x", n-1))
	}
	b.add(qdev.New("i82801b11-bridge", "id", "pcidmi", "bus", "pcie.0", "addr", "0x1e"))
	for n := range 3 {
		b.add(qdev.New("pci-bridge", "id", fmt.Sprintf("pci.%d", n), "bus", "pcidmi",
			"addr", fmt.Sprintf("0x%x", n+1), "chassis_nr", 0x10+n))
	}
}

func (b *builder) rootPort(n int, addr string) {
	b.add(qdev.New("pcie-root-port", "id", fmt.Sprintf("ich9-pcie-port-%d", n), "bus", "pcie.0", "addr", addr,
		"x-speed", "16", "x-width", "32", "multifunction", true, "port", n, "chassis", n))
}

// usb2 adds an EHCI controller with the three companions that serve slower
// devices on its ports; first is the number of the first companion.
func (b *builder) usb2(slot, id, driver string, first int) {
	bus := "pci.0"
	if b.machine.q35 {
		bus = "pcie.0"
	}
	b.add(qdev.New(driver, "id", id, "bus", bus, "addr", slot+".0x7", "multifunction", true))
	for i := range 3 {
		b.add(qdev.New(fmt.Sprintf("ich9-usb-uhci%d", first+i), "id", fmt.Sprintf("uhci-%d", first+i), "bus", bus,
			"addr", fmt.Sprintf("%s.0x%x", slot, i), "multifunction", true, "masterbus", id+".0", "firstport", 2*i))
	}
}

// hostpci passes devices of the node through.
func (b *builder) hostpci() error {
	for _, key := range b.config.indexed("hostpci") {
		o, err := b.config.Options(key, "host")
		if err != nil {
			return err
		}
		if o["host"] == "" {
			return keyErr(key, "only devices named by their address can be passed through")
		}
		if err := b.passThrough(key, o); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) passThrough(key string, o Options) error {
	at, err := b.hostpciPlace(key, o)
	if err != nil {
		return err
	}
	var functions []string
	for _, host := range strings.Split(o["host"], ";") {
		if strings.Count(host, ":") == 1 {
			host = "0000:" + host
		}
		if strings.Contains(host, ".") {
			functions = append(functions, host)
		} else {
			functions = append(functions, b.host.Functions(host)...)
		}
	}
	if len(functions) == 0 {
		return keyErr(key, "no PCI device found for %q", o["host"])
	}
	for i, host := range functions {
		d := qdev.New("vfio-pci", "host", host)
		if len(functions) == 1 {
			d = d.With("id", key).With(at...)
		} else {
			d = d.With("id", fmt.Sprintf("%s.%d", key, i), at[0], at[1], "addr", fmt.Sprintf("%v.%d", at[3], i))
			if i == 0 {
				d = d.With("multifunction", true)
			}
		}
		if i == 0 {
			d = d.With(o.vfio()...)
		}
		b.add(d)
	}
	return nil
}

// hostpciPlace returns the bus and slot, behind a root port of its own for a
// PCI Express device.
func (b *builder) hostpciPlace(key string, o Options) ([]any, error) {
	if !o.Bool("pcie", false) {
		return b.pci(key)
	}
	if !b.machine.q35 {
		return nil, keyErr(key, "pcie needs the machine type q35")
	}
	n, _ := Index(key, "hostpci")
	if n >= 4 {
		b.rootPort(n+1, fmt.Sprintf("0x%x.0x%x", 0x10+(n-4)/8, (n-4)%8))
	}
	return []any{"bus", fmt.Sprintf("ich9-pcie-port-%d", n+1), "addr", "0x0"}, nil
}

// vfio returns the properties that adjust what the guest sees of a device.
func (o Options) vfio() (props []any) {
	if !o.Bool("rombar", true) {
		props = append(props, "rombar", 0)
	}
	if o["romfile"] != "" {
		props = append(props, "romfile", o["romfile"])
	}
	if o.Bool("x-vga", false) {
		props = append(props, "x-vga", true)
	}
	for _, name := range []string{"vendor-id", "device-id", "sub-vendor-id", "sub-device-id"} {
		if n, err := strconv.ParseUint(o[name], 0, 16); err == nil {
			props = append(props, "x-pci-"+name, n)
		}
	}
	return props
}
