package cmdline

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
	"etcpve/agents/qemu/throttle"
)

// A Drive is one disk or CD-ROM of a guest with all that makes it up.
type Drive struct {
	Key        string
	Limit      throttle.Limit // its throttle group, on both sides the same numbers
	Blockdev   map[string]any // nil for a CD-ROM drive without a medium
	Controller qdev.Device    // the SCSI or SATA controller it hangs on; shared ones are made once
	IOThread   string         // the thread object it wants, or ""
	Device     qdev.Device
}

// NodeName returns the name of the topmost block node of a drive.
func NodeName(key string) string { return blockdev.TopName(key) }

// drives adds all of them with their controllers.
func (b *builder) drives() error {
	for _, key := range b.config.DriveKeys() {
		d, err := b.drive(key)
		if err != nil {
			return err
		}
		if d.Controller.Driver != "" && b.once(d.Controller.ID()) {
			b.add(d.Controller)
		}
		if d.Blockdev != nil {
			b.arg("-blockdev", qdev.JSON(d.Blockdev))
		}
		b.add(d.Device)
	}
	return nil
}

// iothreads adds the threads and throttle groups that drives refer to.
func (b *builder) iothreads() error {
	for _, key := range b.config.DriveKeys() {
		o, err := b.config.Options(key, "file")
		if err != nil {
			return err
		}
		if thread := b.iothread(key, o); thread != "" {
			b.object(qdev.New("iothread", "id", thread))
		}
		if o["file"] != "none" {
			if err := b.throttleGroup(key, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) throttleGroup(key string, o Options) error {
	limit, err := throttle.Parse(key, o)
	if err != nil {
		return config.Errorf(key, "%w", err)
	}
	b.arg("-object", qdev.JSON(limit.Object()))
	return nil
}

// iothread names the thread of a drive that asks for one and can have one: a
// virtio disk, or a SCSI disk with a controller of its own.
func (b *builder) iothread(key string, o Options) string {
	bus, n, _ := DriveBus(key)
	switch {
	case !o.Bool("iothread", false) || b.config.Bool("template", false):
	case bus == "virtio":
		return "iothread-" + key
	case bus == "scsi" && b.config["scsihw"] == "virtio-scsi-single":
		return fmt.Sprintf("iothread-virtioscsi%d", n)
	}
	return ""
}

// DriveOf returns one drive of a guest, for plugging it in while the guest runs.
func DriveOf(g Guest, h Host, key string) (Drive, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return Drive{}, err
	}
	return b.drive(key)
}

func (b *builder) drive(key string) (d Drive, err error) {
	bus, _, ok := DriveBus(key)
	if !ok {
		return d, config.Errorf(key, "no such drive")
	}
	o, err := b.config.Options(key, "file")
	if err != nil {
		return d, err
	}
	d = Drive{Key: key, IOThread: b.iothread(key, o)}
	if d.Limit, err = throttle.Parse(key, o); err != nil {
		return d, config.Errorf(key, "%w", err)
	}
	cdrom := o["media"] == "cdrom"
	if o["file"] != "none" {
		if d.Blockdev, err = b.blockdev(key, o, cdrom); err != nil {
			return d, err
		}
	}
	attach := map[string]func(*Drive, Options, bool) error{
		"ide": b.attachIDE, "sata": b.attachSATA, "scsi": b.attachSCSI, "virtio": b.attachVirtio,
	}[bus]
	if err := attach(&d, o, cdrom); err != nil {
		return d, err
	}
	d.Device = d.Device.With(b.driveProps(key, o, cdrom)...)
	return d, nil
}

// driveProps are the properties every kind of drive has.
func (b *builder) driveProps(key string, o Options, cdrom bool) (props []any) {
	if index, ok := b.boot[key]; ok {
		props = append(props, "bootindex", index)
	}
	for _, name := range []string{"werror", "rerror"} {
		if o[name] != "" && !cdrom {
			props = append(props, name, o[name])
		}
	}
	if serial := o["serial"]; serial != "" {
		if plain, err := url.PathUnescape(serial); err == nil {
			serial = plain
		}
		props = append(props, "serial", serial)
	}
	if !cdrom {
		props = append(props, "write-cache", qdev.OnOff(o["cache"] != "writethrough" && o["cache"] != "directsync"))
	}
	return props
}

// withDrive names the medium, if there is one.
func withDrive(dev qdev.Device, d *Drive) qdev.Device {
	if d.Blockdev == nil {
		return dev
	}
	return dev.With("drive", NodeName(d.Key))
}

// diskDriver picks the driver of a disk or CD-ROM on a bus family.
func diskDriver(family string, cdrom bool) string {
	if cdrom {
		return family + "-cd"
	}
	return family + "-hd"
}

// idePorts of a q35 take one drive each. ide0 and ide2 lie where a PC's
// primary and secondary master do.
var idePorts = [4]int{0, 2, 1, 3}

func (b *builder) attachIDE(d *Drive, o Options, cdrom bool) error {
	_, n, _ := DriveBus(d.Key)
	bus, unit := n/2, n%2
	switch {
	case b.machine.ARM: // a controller with the ports of a PC's under their names
		at, err := b.pci("ide")
		if err != nil {
			return err
		}
		bus, unit = idePorts[n], 0
		d.Controller = qdev.New("ahci", "id", "ide").With(at...)
	case b.machine.Q35:
		bus, unit = idePorts[n], 0
	}
	dev := qdev.New(diskDriver("ide", cdrom), "bus", fmt.Sprintf("ide.%d", bus), "unit", unit)
	d.Device = withDrive(dev, d).With("id", d.Key).With(identity(o)...).With(model(o, cdrom)...)
	return nil
}

func (b *builder) attachSATA(d *Drive, o Options, cdrom bool) error {
	at, err := b.pci("ahci0")
	if err != nil {
		return err
	}
	_, n, _ := DriveBus(d.Key)
	d.Controller = qdev.New("ahci", "id", "ahci0", "multifunction", true).With(at...)
	dev := qdev.New(diskDriver("ide", cdrom), "bus", fmt.Sprintf("ahci0.%d", n))
	d.Device = withDrive(dev, d).With("id", d.Key).With(identity(o)...).With(model(o, cdrom)...)
	return nil
}

func (b *builder) attachVirtio(d *Drive, _ Options, cdrom bool) error {
	at, err := b.pci(d.Key)
	if err != nil {
		return err
	}
	if cdrom {
		return config.Errorf(d.Key, "a virtio disk cannot be a CD-ROM drive")
	}
	d.Device = qdev.New("virtio-blk-pci", "drive", NodeName(d.Key), "id", d.Key).With(at...)
	if d.IOThread != "" {
		d.Device = d.Device.With("iothread", d.IOThread)
	}
	return nil
}

// scsiHardware are the values of scsihw: the driver, how many disks one
// controller takes (0: all), and whether disks are LUNs of one target.
var scsiHardware = map[string]struct {
	driver string
	disks  int
	luns   bool
}{
	"":                   {"lsi", 7, false},
	"lsi":                {"lsi", 7, false},
	"lsi53c810":          {"lsi53c810", 7, false},
	"megasas":            {"megasas", 0, false},
	"pvscsi":             {"pvscsi", 0, false},
	"virtio-scsi-pci":    {"virtio-scsi-pci", 0, true},
	"virtio-scsi-single": {"virtio-scsi-pci", 0, true},
}

func (b *builder) attachSCSI(d *Drive, o Options, cdrom bool) error {
	hw, ok := scsiHardware[b.config["scsihw"]]
	if !ok {
		return config.Errorf("scsihw", "unknown controller %q", b.config["scsihw"])
	}
	_, n, _ := DriveBus(d.Key)
	controller, target := "scsihw0", n
	switch {
	case b.config["scsihw"] == "virtio-scsi-single":
		controller = fmt.Sprintf("virtioscsi%d", n)
	case hw.disks > 0:
		controller, target = fmt.Sprintf("scsihw%d", n/hw.disks), n%hw.disks
	}
	at, err := b.pci(controller)
	if err != nil {
		return err
	}
	d.Controller = qdev.New(hw.driver, "id", controller).With(at...)
	if d.IOThread != "" {
		d.Controller = d.Controller.With("iothread", d.IOThread)
	}
	if queues, err := strconv.Atoi(o["queues"]); err == nil && hw.luns {
		d.Controller = d.Controller.With("num_queues", queues)
	}
	driver := diskDriver("scsi", cdrom)
	block := o.Bool("scsiblock", false)
	if block {
		driver = "scsi-block"
	}
	dev := qdev.New(driver, "bus", controller+".0", "scsi-id", target)
	if hw.luns {
		dev = qdev.New(driver, "bus", controller+".0", "channel", 0, "scsi-id", 0, "lun", n)
	}
	dev = withDrive(dev, d).With("id", d.Key)
	if !block {
		dev = dev.With("device_id", NodeName(d.Key)).With(identity(o)...)
		for _, name := range []string{"vendor", "product"} {
			if o[name] != "" {
				dev = dev.With(name, o[name])
			}
		}
	}
	d.Device = dev
	return nil
}

// identity is what tells the guest a disk from others, and an SSD from a
// spinning one.
func identity(o Options) (props []any) {
	if o.Bool("ssd", false) {
		props = append(props, "rotation_rate", 1)
	}
	if wwn, err := strconv.ParseUint(o["wwn"], 0, 64); err == nil {
		props = append(props, "wwn", wwn)
	}
	return props
}

func model(o Options, cdrom bool) []any {
	if o["model"] == "" || cdrom {
		return nil
	}
	if plain, err := url.PathUnescape(o["model"]); err == nil {
		return []any{"model", plain}
	}
	return []any{"model", o["model"]}
}

// blockdev stacks the nodes of a drive.
func (b *builder) blockdev(key string, o Options, cdrom bool) (map[string]any, error) {
	v, err := b.volume(key, o, cdrom)
	if err != nil {
		return nil, err
	}
	d := blockdev.Drive{Key: key, Options: o, CDROM: cdrom, ReadOnly: b.config.Bool("template", false)}
	if key == "efidisk0" {
		image, err := b.build(o)
		if err != nil {
			return nil, err
		}
		d.Size = image.Size
	}
	if o.Bool("snapshot", false) && !cdrom && !d.ReadOnly {
		d.Overlay = filepath.Join(b.host.Scratch, fmt.Sprintf("%d-%s.overlay", b.VMID, key))
		base := v
		base.Format = cmp.Or(o["format"], v.Format)
		b.cmd.Overlays = append(b.cmd.Overlays, Overlay{Path: d.Overlay, Base: base})
	}
	return blockdev.Stack(d, v), nil
}

func (b *builder) volume(key string, o Options, cdrom bool) (Volume, error) {
	id := o["file"]
	if cdrom && id == "cdrom" {
		if b.host.CDROM == "" {
			return Volume{}, config.Errorf(key, "this node has no CD-ROM drive")
		}
		return Volume{Path: b.host.CDROM, Format: "raw", Device: true}, nil
	}
	if id == b.runFile(volatileVars) { // made when the guest starts
		return Volume{Path: id, Format: "raw"}, nil
	}
	v, err := b.Volume(id)
	if err != nil {
		return v, &KeyError{Key: key, Err: err}
	}
	if v.Format == "" || v.Format == "iso" {
		v.Format = "raw"
	}
	return v, nil
}

// isVolume tells a volume from the words that stand in its place.
func isVolume(id string) bool { return id != "" && id != "none" && !strings.EqualFold(id, "cdrom") }
