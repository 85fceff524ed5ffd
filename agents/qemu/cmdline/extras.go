package cmdline

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// extras adds the small devices.
func (b *builder) extras() error {
	for _, step := range []func() error{b.agent, b.serials, b.parallels, b.audio, b.tpm, b.rng, b.watchdog, b.ivshmem, b.balloon, b.directories} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// directories adds the directories of the node that the guest can mount.
func (b *builder) directories() error {
	for _, key := range b.config.Indexed("virtiofs") {
		o, err := b.config.Options(key, "dirid")
		if err != nil {
			return err
		}
		dir, err := b.host.Directory(o["dirid"])
		if err != nil {
			return &KeyError{Key: key, Err: err}
		}
		at, err := b.pci(key)
		if err != nil {
			return err
		}
		acl := o.Bool("expose-acl", false)
		s := Share{Key: key, Tag: o["dirid"], Dir: dir, Socket: b.runFile(key), Cache: cmp.Or(o["cache"], "auto"),
			DirectIO: o.Bool("direct-io", false), XAttr: acl || o.Bool("expose-xattr", false), ACL: acl}
		b.cmd.Shares = append(b.cmd.Shares, s)
		b.arg("-chardev", qdev.New("socket", "id", key, "path", s.Socket).String())
		b.add(qdev.New("vhost-user-fs-pci", "queue-size", 1024, "chardev", key, "tag", s.Tag, "id", key).With(at...))
	}
	return nil
}

// agent adds the channel to the guest agent.
func (b *builder) agent() error {
	o, err := b.config.Options("agent", "enabled")
	if err != nil || !o.Bool("enabled", false) {
		return err
	}
	b.arg("-chardev", b.socket("qga0", "qga").String())
	if o["type"] == "isa" && !b.machine.ARM {
		b.add(qdev.New("isa-serial", "chardev", "qga0"))
		return nil
	}
	at, err := b.pci("qga0")
	if err != nil {
		return err
	}
	b.add(qdev.New("virtio-serial", "id", "qga0").With(at...))
	b.add(qdev.New("virtserialport", "chardev", "qga0", "name", "org.qemu.guest_agent.0"))
	return nil
}

func (b *builder) serials() error {
	for _, key := range b.config.Indexed("serial") {
		path := b.config[key]
		if path == "socket" {
			b.arg("-chardev", b.socket(key, key).String())
		} else {
			b.arg("-chardev", qdev.New("serial", "id", key, "path", path).String())
		}
		switch {
		case !b.machine.ARM:
			b.add(qdev.New("isa-serial", "chardev", key))
		case key == "serial0": // the port that the board has
			b.arg("-serial", "chardev:"+key)
		default:
			at, err := b.pci(key)
			if err != nil {
				return err
			}
			b.add(qdev.New("pci-serial", "chardev", key, "id", key).With(at...))
		}
	}
	return nil
}

func (b *builder) parallels() error {
	for _, key := range b.config.Indexed("parallel") {
		if b.machine.ARM {
			return config.Errorf(key, "an aarch64 guest has no parallel port")
		}
		driver := "parallel"
		if strings.HasPrefix(b.config[key], "/dev/usb/lp") {
			driver = "serial" // a USB printer is written to as it is
		}
		b.arg("-chardev", qdev.New(driver, "id", key, "path", b.config[key]).String())
		b.add(qdev.New("isa-parallel", "chardev", key))
	}
	return nil
}

func (b *builder) audio() error {
	o, err := b.config.Options("audio0", "")
	if err != nil || o["device"] == "" {
		return err
	}
	driver := o["driver"]
	if kind, _, err := b.screen(); driver == "" || err != nil || !hasSPICE(kind) {
		driver = "none"
	}
	at, err := b.pci("audio0")
	if err != nil {
		return err
	}
	b.arg("-audiodev", driver+",id=audiobackend0")
	if o["device"] == "AC97" {
		b.add(qdev.New("AC97", "id", "audiodev0", "audiodev", "audiobackend0").With(at...))
		return nil
	}
	b.add(qdev.New(o["device"], "id", "audiodev0").With(at...))
	for cad, codec := range []string{"hda-micro", "hda-duplex"} {
		b.add(qdev.New(codec, "id", fmt.Sprintf("audiodev0-codec%d", cad), "bus", "audiodev0.0", "cad", cad, "audiodev", "audiobackend0"))
	}
	return nil
}

func (b *builder) rng() error {
	o, err := b.config.Options("rng0", "source")
	if err != nil || o["source"] == "" {
		return err
	}
	at, err := b.pci("rng0")
	if err != nil {
		return err
	}
	b.object(qdev.New("rng-random", "filename", o["source"], "id", "rng0"))
	d := qdev.New("virtio-rng-pci", "rng", "rng0", "id", "rng0")
	if n, period := number(o, "max_bytes", 1024), number(o, "period", 1000); n > 0 {
		d = d.With("max-bytes", n, "period", period)
	}
	b.add(d.With(at...))
	return nil
}

func number(o Options, key string, def int) int {
	if n, err := strconv.Atoi(o[key]); err == nil {
		return n
	}
	return def
}

func (b *builder) watchdog() error {
	o, err := b.config.Options("watchdog", "model")
	if err != nil || len(o) == 0 {
		return err
	}
	d := qdev.New("i6300esb", "id", "watchdog0")
	if o["model"] == "ib700" {
		if b.machine.ARM {
			return config.Errorf("watchdog", "an aarch64 guest has no ib700")
		}
		d.Driver = "ib700"
	} else {
		at, err := b.pci("watchdog")
		if err != nil {
			return err
		}
		d = d.With(at...)
	}
	b.add(d)
	if o["action"] != "" {
		b.arg("-action", "watchdog="+o["action"])
	}
	return nil
}

// SharedMemory is the file of the memory that a guest shares with others, ""
// if it shares none.
func SharedMemory(vmid uint32, c Config) string {
	o, err := c.Options("ivshmem", "size")
	if err != nil || o["size"] == "" {
		return ""
	}
	return "/dev/shm/pve-shm-" + cmp.Or(o["name"], strconv.FormatUint(uint64(vmid), 10))
}

func (b *builder) ivshmem() error {
	o, err := b.config.Options("ivshmem", "size")
	if err != nil || o["size"] == "" {
		return err
	}
	at, err := b.pci("ivshmem")
	if err != nil {
		return err
	}
	b.object(qdev.New("memory-backend-file", "id", "ivshmem0", "share", true, "mem-path", SharedMemory(b.VMID, b.config), "size", o["size"]+"M"))
	b.add(qdev.New("ivshmem-plain", "id", "ivshmem0", "memdev", "ivshmem0").With(at...))
	return nil
}

// balloon adds the device through which a guest gives memory back.
func (b *builder) balloon() error {
	if b.config["balloon"] == "0" {
		return nil
	}
	at, err := b.pci("balloon0")
	if err != nil {
		return err
	}
	d := qdev.New("virtio-balloon-pci", "id", "balloon0").With(at...)
	if b.machine.Pinned(6, 2) {
		d = d.With("free-page-reporting", true)
	}
	b.add(d)
	return nil
}
