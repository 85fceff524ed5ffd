package guest

import (
	"fmt"
	"slices"
	"strconv"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A Net is one network card of a virtual machine or container.
type Net struct {
	Kind    layout.Kind
	Key     string
	Index   int
	Model   string // virtual machines: virtio, e1000, …
	Name    string // containers: the name inside
	MAC     string
	Bridge  string
	Options schema.Values // all settings, those above included
}

// ParseNet reads the value of one netN.
func ParseNet(kind layout.Kind, key, value string) (Net, error) {
	series, index, ok := Series(key)
	p := Keys(kind)[key]
	if !ok || series != "net" || p == nil {
		return Net{}, fmt.Errorf("%s: not a network card", key)
	}
	options, err := p.Format.Keys.Parse(value)
	if err != nil {
		return Net{}, fmt.Errorf("%s: %w", key, err)
	}
	return Net{
		Kind: kind, Key: key, Index: index, Options: options,
		Model: options["model"], Name: options["name"], Bridge: options["bridge"],
		MAC: options["macaddr"] + options["hwaddr"],
	}, nil
}

// String returns the value in canonical form.
func (n Net) String() string { return Keys(n.Kind)[n.Key].Format.Keys.Print(n.Options) }

// Nets returns the network cards of a section by number. Those that cannot
// be read are left out; Check has said why.
func Nets(kind layout.Kind, s *Section) []Net {
	var nets []Net
	for _, key := range s.Series("net") {
		if n, err := ParseNet(kind, key, s.Get(key)); err == nil {
			nets = append(nets, n)
		}
	}
	return nets
}

// Series returns the keys of a numbered setting that are there, by number.
func (s *Section) Series(name string) []string {
	var keys []string
	for key := range s.values {
		if series, _, ok := Series(key); ok && series == name {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		_, i, _ := Series(a)
		_, j, _ := Series(b)
		return i - j
	})
	return keys
}

// BootOrder returns the devices to boot from, first to last: those of
// "order=", or else what the letters of the older form stand for, in which c
// is the boot disk, d the first CD-ROM drive and n all network cards.
func BootOrder(s *Section) ([]string, error) {
	boot, err := s.Values(layout.QEMU, "boot")
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	if order, ok := boot["order"]; ok {
		return schema.SplitList(order), nil
	}
	letters := boot["legacy"]
	if letters == "" {
		letters = "cdn"
	}
	var devices []string
	for _, letter := range letters {
		switch letter {
		case 'c':
			if disk := BootDisk(s); disk != "" {
				devices = append(devices, disk)
			}
		case 'd':
			for _, v := range Volumes(layout.QEMU, s) {
				if v.IsCDROM() {
					devices = append(devices, v.Key)
					break
				}
			}
		case 'n':
			devices = append(devices, s.Series("net")...)
		}
	}
	return devices, nil
}

// BootDisk returns the disk that "c" stands for in the older form of "boot":
// "bootdisk" if it names a disk that is there, else the first disk.
func BootDisk(s *Section) string {
	chosen := s.Get("bootdisk")
	first := ""
	for _, v := range Volumes(layout.QEMU, s) {
		if v.IsCDROM() || v.Bus == "efidisk" || v.Bus == "tpmstate" {
			continue
		}
		if v.Key == chosen {
			return chosen
		}
		if first == "" {
			first = v.Key
		}
	}
	return first
}

// Memory returns the memory in MiB.
func Memory(kind layout.Kind, s *Section) int {
	if memory, err := s.Values(kind, "memory"); err == nil && memory != nil {
		if n, err := strconv.Atoi(memory["current"]); err == nil {
			return n
		}
	}
	return s.Int(kind, "memory")
}

// Int returns a whole number, or its default, or 0.
func (s *Section) Int(kind layout.Kind, key string) int {
	text, ok := s.Lookup(key)
	if !ok {
		text = defaultOf(kind, key)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// Bool returns a truth value, or its default, or false.
func (s *Section) Bool(kind layout.Kind, key string) bool {
	text, ok := s.Lookup(key)
	if !ok {
		text = defaultOf(kind, key)
	}
	truth, _ := schema.Bool(text)
	return truth
}

// defaultOf returns the value that holds when a setting is absent; for a
// property string it is the one of its bare key.
func defaultOf(kind layout.Kind, key string) string {
	p := Keys(kind)[key]
	if p == nil {
		return ""
	}
	for _, inner := range p.Format.Keys {
		if inner.DefaultKey {
			p = inner
		}
	}
	if p.Default == nil {
		return ""
	}
	return fmt.Sprint(p.Default)
}

// Tags returns the tags in the order written.
func (s *Section) Tags() []string { return schema.SplitList(s.Get("tags")) }
