// Package pcibus knows where on the guest's PCI buses each device lies.
//
// The places are those of Proxmox VE, so that a guest finds its hardware where
// it was. The package owns the table and never knows what the devices are.
package pcibus

import (
	"fmt"
	"strconv"
	"strings"
)

// A Place is a slot of one of the guest's buses.
type Place struct{ Bus, Slot int }

// String is the name of the bus.
func (p Place) String() string { return fmt.Sprintf("pci.%d", p.Bus) }

// Addr is the slot as the addr property has it.
func (p Place) Addr() string { return fmt.Sprintf("0x%x", p.Slot) }

// slots are the places of devices that exist once. Numbered devices follow
// their row in ranges.
var slots = map[string]Place{
	"ide": {0, 0x1d}, // of a machine without the controller of a PC
	"vga": {0, 0x02}, "legacy-igd": {0, 0x02}, "balloon0": {0, 0x03}, "watchdog": {0, 0x04},
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
	at          Place
}{
	{"virtio", 0, 5, Place{0, 0x0a}}, {"virtio", 6, 15, Place{2, 0x01}},
	{"hostpci", 0, 1, Place{0, 0x10}}, {"hostpci", 2, 3, Place{0, 0x1b}}, {"hostpci", 4, 15, Place{2, 0x0d}},
	{"net", 0, 5, Place{0, 0x12}}, {"net", 6, 31, Place{1, 0x01}},
	{"vga", 1, 3, Place{0, 0x18}},
	{"virtioscsi", 0, 30, Place{3, 0x01}},
	{"scsihw", 2, 4, Place{4, 0x01}},
	{"serial", 1, 3, Place{2, 0x1c}},
	{"virtiofs", 0, 2, Place{2, 0x19}}, {"virtiofs", 3, 9, Place{4, 0x06}},
}

// Of returns the place of a device.
func Of(id string) (Place, bool) {
	if p, ok := slots[id]; ok {
		return p, true
	}
	for _, r := range ranges {
		digits, ok := strings.CutPrefix(id, r.prefix)
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n >= r.first && n <= r.last {
			return Place{r.at.Bus, r.at.Slot + n - r.first}, true
		}
	}
	return Place{}, false
}
