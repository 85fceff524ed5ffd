package cmdline

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// hostpci passes devices of the node through.
func (b *builder) hostpci() error {
	for _, key := range b.config.Indexed("hostpci") {
		o, err := b.config.Options(key, "host")
		if err != nil {
			return err
		}
		devices, err := b.nodeDevices(key, o)
		if err != nil {
			return &KeyError{Key: key, Err: err}
		}
		if err := b.passThrough(key, o, devices); err != nil {
			return err
		}
	}
	return nil
}

// nodeDevices are those a key stands for, one for each function.
func (b *builder) nodeDevices(key string, o Options) ([]qdev.Device, error) {
	if o["mapping"] != "" {
		return b.mapped(key, o)
	}
	if o["host"] == "" {
		return nil, errors.New("neither host nor mapping is given")
	}
	if o["mdev"] != "" {
		return []qdev.Device{b.mediated(key)}, nil
	}
	devices := b.functions(o["host"])
	if len(devices) == 0 {
		return nil, fmt.Errorf("no PCI device found for %q", o["host"])
	}
	return devices, nil
}

func (b *builder) functions(list string) (devices []qdev.Device) {
	for _, host := range strings.Split(list, ";") {
		if strings.Count(host, ":") == 1 {
			host = "0000:" + host
		}
		functions := []string{host}
		if !strings.Contains(host, ".") {
			functions = b.host.Functions(host)
		}
		for _, f := range functions {
			devices = append(devices, qdev.New("vfio-pci", "host", f))
		}
	}
	return devices
}

// mapped picks the first of the devices a mapping offers that no earlier key of
// this guest has.
func (b *builder) mapped(key string, o Options) ([]qdev.Device, error) {
	offers, err := b.host.PCI(o["mapping"])
	if err != nil {
		return nil, err
	}
	for _, offer := range offers {
		if offer.Mediated && o["mdev"] != "" {
			return []qdev.Device{b.mediated(key)}, nil
		}
		if !b.once("node device " + offer.Address) {
			continue
		}
		if devices := b.functions(offer.Address); len(devices) > 0 {
			return devices, nil
		}
	}
	return nil, fmt.Errorf("no device of the mapping '%s' is left", o["mapping"])
}

// mediated is the device of a card that many guests share, under the name that
// is made up for this key of this guest.
func (b *builder) mediated(key string) qdev.Device {
	n, _ := Index(key, "hostpci")
	return qdev.New("vfio-pci", "sysfsdev", fmt.Sprintf("/sys/bus/mdev/devices/%08d-0000-0000-0000-%012d", n, b.VMID))
}

func (b *builder) passThrough(key string, o Options, devices []qdev.Device) error {
	at, err := b.hostpciPlace(key, o, len(devices))
	if err != nil {
		return err
	}
	for i, d := range devices {
		if len(devices) == 1 {
			d = d.With("id", key).With(at...)
		} else {
			d = d.With("id", fmt.Sprintf("%s.%d", key, i), at[0], at[1], "addr", fmt.Sprintf("%v.%d", at[3], i))
			if i == 0 {
				d = d.With("multifunction", true)
			}
		}
		if i == 0 {
			d = d.With(vfio(o)...)
		}
		b.add(d)
	}
	return nil
}

// hostpciPlace returns the bus and slot, behind a root port of its own for a
// PCI Express device.
func (b *builder) hostpciPlace(key string, o Options, functions int) ([]any, error) {
	if o.Bool("legacy-igd", false) {
		if err := b.legacyIGD(o, functions); err != nil {
			return nil, &KeyError{Key: key, Err: err}
		}
		return b.pci("legacy-igd")
	}
	if !o.Bool("pcie", false) {
		return b.pci(key)
	}
	if !b.machine.Q35 {
		return nil, config.Errorf(key, "pcie needs the machine type q35")
	}
	n, _ := Index(key, "hostpci")
	if n >= 4 {
		b.rootPort(n+1, fmt.Sprintf("0x%x.0x%x", 0x10+(n-4)/8, (n-4)%8))
	}
	return []any{"bus", fmt.Sprintf("ich9-pcie-port-%d", n+1), "addr", "0x0"}, nil
}

// legacyIGD says why Intel's graphics cannot be the guest's own in the way its
// old drivers expect.
func (b *builder) legacyIGD(o Options, functions int) error {
	switch {
	case !b.once("legacy-igd"):
		return errors.New("only one device can be assigned in legacy-igd mode")
	case b.config["vga"] != "none":
		return errors.New("legacy-igd needs vga: none")
	case !o.Bool("rombar", true):
		return errors.New("legacy-igd needs rombar")
	case o.Bool("x-vga", false) || o["mdev"] != "" || functions > 1:
		return errors.New("legacy-igd does not go with x-vga, mdev or several functions")
	case b.machine.Q35 || b.config["bios"] == "ovmf":
		return errors.New("legacy-igd needs the machine type pc and bios seabios")
	}
	return nil
}

// vfio returns the properties that adjust what the guest sees of a device.
func vfio(o Options) (props []any) {
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
