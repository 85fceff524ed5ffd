package cmdline

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/qdev"
	"etcpve/cfs/format/property"
)

// A Config is the main section of a guest's configuration: each key with the
// text of its value.
type Config map[string]string

// Options are the parts of a property string.
type Options map[string]string

// aliases are the second names of options.
var aliases = map[string]string{
	"volume":        "file",
	"bps_rd_length": "bps_rd_max_length", "bps_wr_length": "bps_wr_max_length",
	"iops_rd_length": "iops_rd_max_length", "iops_wr_length": "iops_wr_max_length",
}

// Options splits the value of a key; a part without a key of its own is filed
// under bare.
func (c Config) Options(key, bare string) (Options, error) {
	parts, err := property.Split(c[key])
	if err != nil {
		return nil, keyErr(key, "%w", err)
	}
	o := Options{}
	for _, p := range parts {
		name := p.Key
		if name == "" {
			name = bare
		}
		if other, ok := aliases[name]; ok {
			name = other
		}
		o[name] = p.Value
	}
	return o, nil
}

// Bool reads a truth value; an absent key is def.
func (c Config) Bool(key string, def bool) bool { return truth(c[key], def) }

// Bool reads a truth value; an absent option is def.
func (o Options) Bool(key string, def bool) bool { return truth(o[key], def) }

func truth(value string, def bool) bool {
	switch strings.ToLower(value) {
	case "":
		return def
	case "1", "on", "yes", "true":
		return true
	}
	return false
}

// Int reads a whole number; an absent key is def.
func (c Config) Int(key string, def int) (int, error) {
	if c[key] == "" {
		return def, nil
	}
	n, err := strconv.Atoi(c[key])
	if err != nil {
		return 0, keyErr(key, "%q is not a whole number", c[key])
	}
	return n, nil
}

// indexed returns the keys made of prefix and a number, in order of the numbers.
func (c Config) indexed(prefix string) (keys []string) {
	for key := range c {
		if _, ok := Index(key, prefix); ok {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		i, _ := Index(a, prefix)
		j, _ := Index(b, prefix)
		return i - j
	})
	return keys
}

// Index returns the number in a key such as net0.
func Index(key, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(key, prefix)
	if !ok || digits == "" || len(digits) > 3 {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0
}

// hotplugDefault applies when the hotplug key is absent or "1".
const hotplugDefault = "network,disk,usb"

// Hotplug returns the classes of changes that may be made while the guest runs.
func (c Config) Hotplug() map[string]bool {
	classes := c["hotplug"]
	switch classes {
	case "", "1":
		classes = hotplugDefault
	case "0":
		classes = ""
	}
	out := map[string]bool{}
	for _, class := range strings.FieldsFunc(classes, func(r rune) bool { return strings.ContainsRune(",; ", r) }) {
		out[class] = true
	}
	return out
}

// windows returns the version of Windows in the kernel's own numbering (7 and
// later as marketed), 0 for anything else.
func (c Config) windows() int {
	return map[string]int{
		"wxp": 5, "w2k3": 5, "w2k": 5, "wvista": 6, "w2k8": 6, "win7": 7, "win8": 8, "win10": 10, "win11": 11,
	}[c["ostype"]]
}

func (c Config) linux() bool { return c["ostype"] == "l24" || c["ostype"] == "l26" }

// templateKeys are all that matters of a template: one is started only to be
// read, with its disks as they are.
var templateKeys = []string{"template", "name", "bios", "efidisk", "scsi", "virtio", "ide", "sata", "scsihw"}

func (c Config) forTemplate() Config {
	out := Config{}
	for key, value := range c {
		if slices.Contains(templateKeys, strings.TrimRight(key, "0123456789")) || slices.Contains(templateKeys, key) {
			out[key] = value
		}
	}
	maps.Copy(out, Config{"kvm": "0", "cpu": "qemu64", "vga": "none"})
	return out
}

// BootOf returns the bootindex of each drive and NIC of a guest that has one.
func BootOf(g Guest, h Host) (map[string]int, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return nil, err
	}
	return b.boot, nil
}

// Bootable reports whether the firmware can be told to boot from the device of
// a key.
func Bootable(c Config, key string) bool {
	if _, _, drive := DriveBus(key); drive {
		return true
	}
	_, nic := Index(key, "net")
	return nic && !strings.HasPrefix(c[key], "ne2k_isa")
}

// bootOrder returns the bootindex of each drive and NIC that has one.
func (c Config) bootOrder() (map[string]int, error) {
	o, err := c.Options("boot", "legacy")
	if err != nil {
		return nil, err
	}
	boot := map[string]int{}
	if c.Bool("template", false) {
		return boot, nil
	}
	if order, ok := o["order"]; ok {
		for i, key := range strings.FieldsFunc(order, func(r rune) bool { return strings.ContainsRune("; ", r) }) {
			boot[key] = 100 + i
		}
		return boot, nil
	}
	legacy := o["legacy"]
	if legacy == "" {
		legacy = "cdn"
	}
	for i, letter := range legacy {
		c.bootLegacy(boot, letter, 100*(i+1))
	}
	return boot, nil
}

// bootLegacy numbers one class of the old boot order from first on: the boot
// disk among the disks, every CD-ROM, every NIC.
func (c Config) bootLegacy(boot map[string]int, letter rune, first int) {
	switch letter {
	case 'c', 'd':
		for _, key := range c.DriveKeys() {
			switch cdrom := c.isCDROM(key); {
			case cdrom != (letter == 'd'):
				continue
			case cdrom || key == c["bootdisk"]:
				boot[key] = first
			}
			first++
		}
	case 'n':
		for i, key := range c.indexed("net") {
			boot[key] = first + i
		}
	}
}

// smbiosFields in the order QEMU's manual has them.
var smbiosFields = []string{"uuid", "manufacturer", "product", "version", "serial", "sku", "family"}

func (o Options) smbios() (string, error) {
	text := "type=1"
	for _, field := range smbiosFields {
		value, ok := o[field]
		if !ok {
			continue
		}
		if field != "uuid" && o.Bool("base64", false) {
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return "", fmt.Errorf("%s: %w", field, err)
			}
			value = string(plain)
		}
		text += "," + field + "=" + qdev.Escape(value)
	}
	return text, nil
}
