package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// screen returns the kind of the first graphics card and its options. A guest
// with a card of the node gets no other unless it asks.
func (b *builder) screen() (kind string, o Options, err error) {
	o, err = b.config.Options("vga", "type")
	switch kind = o["type"]; {
	case kind == "" && b.config.GraphicsCard() && b.config["vga"] == "":
		kind = "none"
	case kind == "" && b.machine.ARM:
		kind = "virtio"
	}
	return kind, o, err
}

// hasSPICE reports whether a kind of graphics card brings a SPICE server along.
func hasSPICE(kind string) bool {
	return strings.HasPrefix(kind, "qxl") || strings.HasPrefix(kind, "virtio")
}

// display picks where the guest's screen goes.
func (b *builder) display() error {
	kind, _, err := b.screen()
	if err != nil {
		return err
	}
	if kind == "none" || strings.HasPrefix(kind, "serial") {
		b.arg("-vga", "none", "-display", "none")
		return nil
	}
	b.arg("-vnc", "unix:"+qdev.Escape(b.runFile("vnc"))+",password=on")
	return nil
}

// vgaDrivers are the values of vga and QEMU's names for them.
var vgaDrivers = map[string]string{
	"": "VGA", "std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "virtio": "virtio-vga", "virtio-gl": "virtio-vga-gl",
	"qxl": "qxl-vga", "qxl2": "qxl-vga", "qxl3": "qxl-vga", "qxl4": "qxl-vga",
}

// graphics adds the graphics cards, and SPICE for those that speak it.
func (b *builder) graphics() error {
	kind, o, err := b.screen()
	if err != nil || kind == "none" {
		return err
	}
	if strings.HasPrefix(kind, "serial") {
		if b.config[kind] == "" {
			return config.Errorf("vga", "the guest has no %s", kind)
		}
		return nil
	}
	driver, ok := vgaDrivers[kind]
	if !ok {
		return config.Errorf("vga", "unknown type %q", kind)
	}
	if err := b.card(driver, o); err != nil {
		return err
	}
	if kind == "virtio-gl" {
		b.arg("-display", "egl-headless,gl=core")
	}
	switch {
	case o["clipboard"] == "vnc":
		b.arg("-chardev", "qemu-vdagent,id=vdagent,name=vdagent,clipboard=on")
	case hasSPICE(kind):
		b.arg("-chardev", "spicevmc,id=vdagent,name=vdagent")
	default:
		return nil
	}
	if err := b.agentPort(); err != nil || !hasSPICE(kind) {
		return err
	}
	return b.spice(kind)
}

// card adds the first graphics card.
func (b *builder) card(driver string, o Options) error {
	at := []any{"bus", "pcie.0", "addr", "0x1"}
	if !b.machine.Q35 {
		var err error
		if at, err = b.pci("vga"); err != nil {
			return err
		}
	}
	if b.machine.ARM && driver == "virtio-vga" {
		driver = "virtio-gpu" // there is no VGA to be compatible with
	}
	d := qdev.New(driver, "id", "vga")
	if memory, _ := strconv.Atoi(o["memory"]); memory > 0 {
		switch driver {
		case "qxl-vga":
			d = d.With("ram_size_mb", 2*memory, "vram_size_mb", memory, "vgamem_mb", memory)
		case "virtio-vga", "virtio-vga-gl", "virtio-gpu":
			d = d.With("max_hostmem", memory<<20)
		default:
			d = d.With("vgamem_mb", memory)
		}
	}
	if driver == "qxl-vga" && b.config.Linux() && b.machine.Pinned(4, 1) {
		d = d.With("max_outputs", 4)
	}
	if driver == "VGA" && b.config.Windows() > 0 && b.config["bios"] != "ovmf" {
		d = d.With("edid", false) // Windows on SeaBIOS offers only one resolution with it
	}
	b.add(d.With(at...))
	return nil
}

// agentPort adds the channel to the clipboard agent in the guest.
func (b *builder) agentPort() error {
	at, err := b.pci("spice")
	if err != nil {
		return err
	}
	b.add(qdev.New("virtio-serial", "id", "spice").With(at...))
	b.add(qdev.New("virtserialport", "chardev", "vdagent", "name", "com.redhat.spice.0"))
	return nil
}

// spice adds further screens and a SPICE server on a socket of this node: who
// may reach it is decided by whoever forwards it.
func (b *builder) spice(kind string) error {
	screens, _ := strconv.Atoi(strings.TrimPrefix(kind, "qxl"))
	switch {
	case screens < 2:
	case b.config.Windows() == 0: // one card shows them all
		b.arg("-global", fmt.Sprintf("qxl-vga.ram_size=%d", screens*64<<20), "-global", fmt.Sprintf("qxl-vga.vram_size=%d", screens*32<<20))
		screens = 0
	}
	for n := 1; n < screens; n++ {
		id := fmt.Sprintf("vga%d", n)
		at, err := b.pci(id)
		if err != nil {
			return err
		}
		b.add(qdev.New("qxl", "id", id, "ram_size", 64<<20, "vram_size", 32<<20).With(at...))
	}
	o, err := b.config.Options("spice_enhancements", "")
	if err != nil {
		return err
	}
	if o.Bool("foldersharing", false) {
		b.arg("-chardev", "spiceport,id=foldershare,name=org.spice-space.webdav.0")
		b.add(qdev.New("virtserialport", "chardev", "foldershare", "name", "org.spice-space.webdav.0"))
	}
	text := "unix=on,addr=" + qdev.Escape(b.runFile("spice")) + ",disable-ticketing=on,seamless-migration=on"
	if video := o["videostreaming"]; video != "" {
		text += ",streaming-video=" + video
	}
	b.arg("-spice", text)
	return nil
}
