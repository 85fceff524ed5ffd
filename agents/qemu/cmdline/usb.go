package cmdline

import (
	"fmt"
	"regexp"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// usb adds the controllers that the tablet and the configured devices need.
func (b *builder) usb() error {
	switch {
	case b.machine.ARM:
		b.add(qdev.New("usb-ehci", "id", "ehci", "bus", "pcie.0", "addr", "0x1"))
	case !b.machine.Q35:
		b.add(qdev.New("piix3-usb-uhci", "id", "uhci", "bus", "pci.0", "addr", "0x1.0x2"))
	}
	keys := b.config.Indexed("usb")
	for _, key := range keys {
		if n, _ := Index(key, "usb"); n > 4 && !b.manyUSB() {
			return config.Errorf(key, "using %s is only possible with machine type >= 7.1 and ostype l26 or windows > 7", key)
		}
	}
	if err := b.usbControllers(keys); err != nil {
		return err
	}
	if tablet, wanted := b.tablet(); wanted {
		b.add(tablet)
	}
	if b.machine.ARM { // which has no other
		b.add(qdev.New("usb-kbd", "id", "keyboard", "bus", "ehci.0", "port", "2"))
	}
	for _, key := range keys {
		u, err := b.usbDevice(key)
		if err != nil {
			return err
		}
		if u.Redirect != "" {
			b.arg("-chardev", "spicevmc,id="+u.Redirect+",name=usbredir")
		}
		b.add(u.Device)
	}
	return nil
}

// tablet is the pointer that follows the one of whoever looks at the screen.
// SPICE has one of its own, and a serial line none.
func (b *builder) tablet() (tablet qdev.Device, wanted bool) {
	bus := map[bool]string{true: "ehci.0", false: "uhci.0"}[b.machine.Q35 || b.machine.ARM]
	kind, _, err := b.screen()
	pointer := err == nil && !strings.HasPrefix(kind, "qxl") && !strings.HasPrefix(kind, "serial")
	return qdev.New("usb-tablet", "id", "tablet", "bus", bus, "port", "1"), b.config.Bool("tablet", pointer)
}

// TabletOf returns the pointer of a guest, for plugging it in while the guest
// runs, and whether the guest is to have it.
func TabletOf(g Guest, h Host) (tablet qdev.Device, wanted bool, err error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return tablet, false, err
	}
	tablet, wanted = b.tablet()
	return tablet, wanted, nil
}

// manyUSB guests have all their devices on one xHCI controller with 14 ports.
func (b *builder) manyUSB() bool { return b.config.ManyUSBOn(b.machine) }

// xhci is the controller for USB 3 devices, and for all where there can be many.
func (b *builder) xhci() (qdev.Device, error) {
	at, err := b.pci("xhci")
	d := qdev.New("nec-usb-xhci", "id", "xhci")
	if b.manyUSB() {
		d = qdev.New("qemu-xhci", "p2", 15, "p3", 15, "id", "xhci")
	}
	return d.With(at...), err
}

func (b *builder) usbControllers(keys []string) error {
	var fast, slow bool
	for _, key := range keys {
		o, err := b.config.Options(key, "host")
		if err != nil {
			return err
		}
		usb3 := b.manyUSB() || o.Bool("usb3", false)
		fast, slow = fast || usb3, slow || !usb3
	}
	if fast {
		d, err := b.xhci()
		if err != nil {
			return err
		}
		b.add(d)
	}
	if slow && !b.machine.Q35 && !b.machine.ARM {
		b.usb2("0x1d", "ehci", "ich9-usb-ehci1", 1)
	}
	return nil
}

// A USB is one USB device of a guest with what it needs.
type USB struct {
	Controller qdev.Device // to be made if it is not there; none if every machine has it
	Redirect   string      // the character device of one that SPICE redirects, or ""
	Device     qdev.Device
}

// RedirectID and RedirectChardev name the parts of a device that SPICE redirects.
func RedirectID(n int) string      { return fmt.Sprintf("usbredirdev%d", n) }
func RedirectChardev(n int) string { return fmt.Sprintf("usbredirchardev%d", n) }

// USBOf returns one USB device of a guest, for plugging it in while it runs.
func USBOf(g Guest, h Host, key string) (USB, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return USB{}, err
	}
	return b.usbDevice(key)
}

var (
	usbProduct = regexp.MustCompile(`^(?:0x)?([0-9A-Fa-f]{4}):(?:0x)?([0-9A-Fa-f]{4})$`)
	usbPort    = regexp.MustCompile(`^(\d+)-(\d+(?:\.\d+)*)$`)
)

func (b *builder) usbDevice(key string) (u USB, err error) {
	o, err := b.config.Options(key, "host")
	if err != nil {
		return u, err
	}
	n, _ := Index(key, "usb")
	bus := []any{"bus", "ehci.0"}
	switch {
	case b.manyUSB():
		bus = []any{"bus", "xhci.0", "port", fmt.Sprint(n + 1)}
	case o.Bool("usb3", false):
		bus[1] = "xhci.0"
	}
	if bus[1] == "xhci.0" {
		if u.Controller, err = b.xhci(); err != nil {
			return u, err
		}
	}
	host := o["host"]
	if strings.EqualFold(host, "spice") {
		u.Redirect = RedirectChardev(n)
		u.Device = qdev.New("usb-redir", "chardev", u.Redirect, "id", RedirectID(n)).With(bus...)
		return u, nil
	}
	if o["mapping"] != "" {
		if host, err = b.host.USB(o["mapping"]); err != nil {
			return u, &KeyError{Key: key, Err: err}
		}
	}
	u.Device = qdev.New("usb-host").With(bus...)
	if p := usbProduct.FindStringSubmatch(host); p != nil {
		u.Device = u.Device.With("vendorid", "0x"+p[1], "productid", "0x"+p[2])
	} else if p := usbPort.FindStringSubmatch(host); p != nil {
		u.Device = u.Device.With("hostbus", p[1], "hostport", p[2])
	} else {
		return u, config.Errorf(key, "%q names no device of this node", b.config[key])
	}
	u.Device = u.Device.With("id", key)
	return u, nil
}
