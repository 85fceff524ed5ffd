// Package config reads what the configuration of a VM says, without knowing how
// QEMU says it.
//
// It owns the defaults of the keys and the rules between them. It never reads a
// file; its text comes from cfs/format/guest.
package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		return nil, Errorf(key, "%w", err)
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
		return 0, Errorf(key, "%q is not a whole number", c[key])
	}
	return n, nil
}

// Indexed returns the keys made of prefix and a number, in order of the numbers.
func (c Config) Indexed(prefix string) (keys []string) {
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

// Windows returns the version of Windows in the kernel's own numbering (7 and
// later as marketed), 0 for anything else.
func (c Config) Windows() int {
	return map[string]int{
		"wxp": 5, "w2k3": 5, "w2k": 5, "wvista": 6, "w2k8": 6, "win7": 7, "win8": 8, "win10": 10, "win11": 11,
	}[c["ostype"]]
}

// Linux reports whether the guest says it is one.
func (c Config) Linux() bool { return c["ostype"] == "l24" || c["ostype"] == "l26" }

// templateKeys are all that matters of a template: one is started only to be
// read, with its disks as they are.
var templateKeys = []string{"template", "name", "bios", "efidisk", "scsi", "virtio", "ide", "sata", "scsihw"}

// ForTemplate is what is left of a template that is started.
func (c Config) ForTemplate() Config {
	out := Config{}
	for key, value := range c {
		if slices.Contains(templateKeys, strings.TrimRight(key, "0123456789")) || slices.Contains(templateKeys, key) {
			out[key] = value
		}
	}
	maps.Copy(out, Config{"kvm": "0", "cpu": "qemu64", "vga": "none"})
	return out
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

// BootOrder returns the bootindex of each drive and NIC that has one.
func (c Config) BootOrder() (map[string]int, error) {
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
			switch cdrom := c.IsCDROM(key); {
			case cdrom != (letter == 'd'):
				continue
			case cdrom || key == c["bootdisk"]:
				boot[key] = first
			}
			first++
		}
	case 'n':
		for i, key := range c.Indexed("net") {
			boot[key] = first + i
		}
	}
}

// A KeyError is a setting that this host cannot honour.
type KeyError struct {
	Key string
	Err error
}

// Error names the key first.
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *KeyError) Unwrap() error { return e.Err }

// Errorf makes an error about a key.
func Errorf(key, format string, args ...any) error {
	return &KeyError{Key: key, Err: fmt.Errorf(format, args...)}
}

// Native reports whether a guest's CPU is of the node's kind.
func (c Config) Native(node string) bool {
	return c["arch"] == "" || c["arch"] == cmp.Or(node, "x86_64")
}

// GraphicsCard reports whether a card of the node is the guest's first.
func (c Config) GraphicsCard() bool {
	for _, key := range c.Indexed("hostpci") {
		if o, err := c.Options(key, "host"); err == nil && o.Bool("x-vga", false) {
			return true
		}
	}
	return false
}
