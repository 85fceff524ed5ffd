package cmdline

import (
	"fmt"
	"regexp"
	"strings"

	"etcpve/agents/qemu/qdev"
)

// usb adds the controllers that the tablet and the configured devices need.
func (b *builder) usb() error {
	if !b.machine.q35 {
		b.add(qdev.New("piix3-usb-uhci", "id", "uhci", "bus", "pci.0", "addr", "0x1.0x2"))
	}
	keys := b.config.indexed("usb")
	for _, key := range keys {
		if n, _ := Index(key, "usb"); n > 4 && !b.manyUSB() {
			return keyErr(key, "using %s is only possible with machine type >= 7.1 and ostype l26 or windows > 7", key)
		}
	}
	if err := b.usbControllers(keys); err != nil {
		return err
	}
	// SPICE has a pointer of its own, and a serial line none.
	pointer := !strings.HasPrefix(b.config["vga"], "qxl") && !strings.HasPrefix(b.config["vga"], "serial")
	if b.config.Bool("tablet", pointer) {
		bus := map[bool]string{true: "ehci.0", false: "uhci.0"}[b.machine.q35]
		b.add(qdev.New("usb-tablet", "id", "tablet", "bus", bus, "port", "1"))
	}
	for _, key := range keys {
		if err := b.usbDevice(key); err != nil {
			return err
		}
	}
	return nil
}

// manyUSB guests have all their devices on one xHCI controller with 14 ports.
func (b *builder) manyUSB() bool {
	return b.machine.pinned(7, 1) && (b.config["ostype"] == "l26" || b.config.windows() > 7)
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
		at, err := b.pci("xhci")
		if err != nil {
			return err
		}
		d := qdev.New("nec-usb-xhci", "id", "xhci")
		if b.manyUSB() {
			d = qdev.New("qemu-xhci", "p2", 15, "p3", 15, "id", "xhci")
		}
		b.add(d.With(at...))
	}
	if slow && !b.machine.q35 {
		b.usb2("0x1d", "ehci", "ich9-usb-ehci1", 1)
	}
	return nil
}

var (
	usbProduct = regexp.MustCompile(`^(?:0x)?([0-9A-Fa-f]{4}):(?:0x)?([0-9A-Fa-f]{4})$`)
	usbPort    = regexp.MustCompile(`^(\d+)-(\d+(?:\.\d+)*)$`)
)

func (b *builder) usbDevice(key string) error {
	o, err := b.config.Options(key, "host")
	if err != nil {
		return err
	}
	n, _ := Index(key, "usb")
	bus := []any{"bus", "ehci.0"}
	switch {
	case b.manyUSB():
		bus = []any{"bus", "xhci.0", "port", fmt.Sprint(n + 1)}
	case o.Bool("usb3", false):
		bus[1] = "xhci.0"
	}
	host := o["host"]
	if strings.EqualFold(host, "spice") {
		dev := fmt.Sprintf("usbredirchardev%d", n)
		b.arg("-chardev", fmt.Sprintf("spicevmc,id=%s,name=usbredir", dev))
		b.add(qdev.New("usb-redir", "chardev", dev, "id", fmt.Sprintf("usbredirdev%d", n)).With(bus...))
		return nil
	}
	d := qdev.New("usb-host").With(bus...)
	if p := usbProduct.FindStringSubmatch(host); p != nil {
		d = d.With("vendorid", "0x"+p[1], "productid", "0x"+p[2])
	} else if p := usbPort.FindStringSubmatch(host); p != nil {
		d = d.With("hostbus", p[1], "hostport", p[2])
	} else {
		return keyErr(key, "%q names no device of this node", b.config[key])
	}
	b.add(d.With("id", key))
	return nil
}
