// Package ovf reads the manifest of a virtual machine that another system has
// exported, in the Open Virtualization Format.
//
// It owns what becomes of the manifest's items: settings, disks and network
// cards. Namespaces and their prefixes do not matter, as exporters differ in
// them. It resolves no entity, opens no file the manifest names, and takes none
// for granted that does not lie beside the manifest.
package ovf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A Machine is what a manifest describes.
type Machine struct {
	Settings map[string]string // of the configuration
	Disks    []Disk
	Nets     []Net
}

// A Disk is one disk image.
type Disk struct {
	Address string // the key of the drive, such as scsi0
	File    string // beside the manifest
	Bytes   int64  // size as declared
}

// A Net is one network card.
type Net struct{ Key, Model string }

// An element is one XML element with namespaces left out.
type element struct {
	name     string
	attrs    map[string]string
	text     string
	children []*element
}

// Parse reads a manifest.
func Parse(manifest io.Reader) (Machine, error) {
	root, err := read(manifest)
	if err != nil {
		return Machine{}, fmt.Errorf("ovf: %w", err)
	}
	system := root.find("VirtualSystem")
	if root.name != "Envelope" || system == nil {
		return Machine{}, errors.New("ovf: the manifest describes no virtual system")
	}
	m := Machine{Settings: map[string]string{}}
	items := system.all("Item")
	m.settings(system, items)
	if err := m.disks(root, items); err != nil {
		return Machine{}, fmt.Errorf("ovf: %w", err)
	}
	for _, item := range items {
		if item.value("ResourceType") == network {
			m.Nets = append(m.Nets, Net{"net" + strconv.Itoa(len(m.Nets)), netModel(item.value("ResourceSubType"))})
		}
	}
	return m, nil
}

// maxDepth bounds what a manifest can make the reader keep.
const maxDepth = 64

// read makes a tree of the manifest. The decoder knows no entities but XML's
// own, and refuses all others.
func read(manifest io.Reader) (*element, error) {
	d := xml.NewDecoder(manifest)
	var open []*element
	var root *element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, attrs: map[string]string{}}
			for _, a := range t.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			if len(open) == 0 {
				root = e
			} else {
				above := open[len(open)-1]
				above.children = append(above.children, e)
			}
			if open = append(open, e); len(open) > maxDepth {
				return nil, errors.New("elements are nested too deeply")
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text += string(t)
			}
		}
	}
	if root == nil {
		return nil, errors.New("the manifest is empty")
	}
	return root, nil
}

// all returns the elements of a name below e, in order.
func (e *element) all(name string) (found []*element) {
	for _, c := range e.children {
		if c.name == name {
			found = append(found, c)
		}
		found = append(found, c.all(name)...)
	}
	return found
}

func (e *element) find(name string) *element {
	if found := e.all(name); len(found) > 0 {
		return found[0]
	}
	return nil
}

// value is the text of a child.
func (e *element) value(name string) string {
	for _, c := range e.children {
		if c.name == name {
			return strings.TrimSpace(c.text)
		}
	}
	return ""
}

// Resource types of CIM.
const (
	processor = "3"
	memory    = "4"
	network   = "10"
	disk      = "17"
)

// buses are the controllers that disks hang on.
var buses = map[string]string{"5": "ide", "6": "scsi", "20": "sata"}

func (m *Machine) settings(system *element, items []*element) {
	name := system.value("Name")
	if name == "" {
		name = system.attrs["id"]
	}
	if name = dnsName(name); name != "" {
		m.Settings["name"] = name
	}
	for _, item := range items {
		switch quantity := item.value("VirtualQuantity"); item.value("ResourceType") {
		case processor:
			m.Settings["cores"] = quantity
		case memory:
			m.Settings["memory"] = mebibytes(quantity, item.value("AllocationUnits"))
		}
	}
	m.Settings["ostype"] = "other"
	if os := system.find("OperatingSystemSection"); os != nil {
		m.Settings["ostype"] = osType(os.attrs["id"])
	}
	for _, c := range system.all("Config") {
		if c.attrs["key"] == "firmware" && c.attrs["value"] == "efi" {
			m.Settings["bios"] = "ovmf"
		}
	}
}

// dnsName makes a name of a guest out of any text.
func dnsName(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return '-'
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.':
			return r
		}
		return -1
	}, text)
}

// units are the names of older manifests for powers of two.
var units = map[string]uint{"kilobytes": 10, "megabytes": 20, "gigabytes": 30, "terabytes": 40, "kb": 10, "mb": 20, "gb": 30, "tb": 40}

// scale returns how many bytes a unit has: "byte * 2^30", or a name.
func scale(unit string) (bytes int64, ok bool) {
	unit = strings.ToLower(strings.Join(strings.Fields(unit), ""))
	if shift, known := units[unit]; known {
		return 1 << shift, true
	}
	product, known := strings.CutPrefix(unit, "byte")
	if !known {
		return 0, unit == ""
	}
	bytes = 1
	for factor := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(product, "s"), "*"), "*") {
		if factor == "" {
			continue
		}
		base, exponent, power := strings.Cut(factor, "^")
		n, err := strconv.ParseInt(base, 10, 64)
		e := int64(1)
		if power && err == nil {
			e, err = strconv.ParseInt(exponent, 10, 64)
		}
		if err != nil || n < 1 || e < 0 || e > 62 {
			return 0, false
		}
		for range e {
			if bytes > math.MaxInt64/n {
				return 0, false
			}
			bytes *= n
		}
	}
	return bytes, true
}

// mebibytes converts an amount of memory; without a unit it is MiB already.
func mebibytes(quantity, unit string) string {
	bytes, ok := scale(unit)
	n, err := strconv.ParseInt(quantity, 10, 64)
	if !ok || err != nil || bytes == 0 || n > math.MaxInt64/bytes {
		return quantity
	}
	return strconv.FormatInt(n*bytes>>20, 10)
}

// disks resolves each disk item through its host resource, the disk and its
// file. Items that do not resolve are skipped.
func (m *Machine) disks(root *element, items []*element) error {
	controllers, files, disks := map[string]string{}, map[string]string{}, map[string]*element{}
	for _, item := range items {
		controllers[item.value("InstanceID")] = buses[item.value("ResourceType")]
	}
	for _, f := range root.all("File") {
		files[f.attrs["id"]] = f.attrs["href"]
	}
	for _, d := range root.all("Disk") {
		disks[d.attrs["diskId"]] = d
	}
	for _, item := range items {
		if item.value("ResourceType") != disk {
			continue
		}
		resource := item.value("HostResource")
		d := disks[resource[strings.LastIndexByte(resource, '/')+1:]]
		bus := controllers[item.value("Parent")]
		if d == nil || files[d.attrs["fileRef"]] == "" || bus == "" {
			continue
		}
		file := files[d.attrs["fileRef"]]
		if file != filepath.Base(file) || file == "." || file == ".." {
			return fmt.Errorf("file %q does not lie beside the manifest", file)
		}
		m.Disks = append(m.Disks, Disk{Address: bus + item.value("AddressOnParent"), File: file, Bytes: capacity(d)})
	}
	var order []string
	for i := range m.Disks {
		for slices.Contains(order, m.Disks[i].Address) { // of a second controller of the kind
			m.Disks[i].Address = next(m.Disks[i].Address)
		}
		order = append(order, m.Disks[i].Address)
	}
	if len(order) > 0 {
		m.Settings["boot"] = "order=" + strings.Join(order, ";")
	}
	return nil
}

// next counts up the number at the end of a key.
func next(key string) string {
	bus := strings.TrimRight(key, "0123456789")
	n, err := strconv.Atoi(key[len(bus):])
	if err != nil {
		n = -1
	}
	return bus + strconv.Itoa(n+1)
}

// capacity is the declared size of a disk in bytes, 0 if it cannot be told.
func capacity(d *element) int64 {
	n, err := strconv.ParseInt(d.attrs["capacity"], 10, 64)
	unit := int64(1)
	if text := d.attrs["capacityAllocationUnits"]; text != "" {
		var ok bool
		if unit, ok = scale(text); !ok {
			return 0
		}
	}
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0
	}
	return n * unit
}

// models are the network cards that exist here under the same name.
var models = []string{"e1000", "e1000e", "vmxnet3"}

func netModel(kind string) string {
	if kind = strings.ToLower(kind); slices.Contains(models, kind) {
		return kind
	}
	return "e1000"
}

// osTypes are the operating systems of CIM, by the number a manifest gives.
var osTypes = map[string][]int{
	"w2k":     {58},
	"wxp":     {67, 71, 72, 75},
	"w2k3":    {69, 70},
	"wvista":  {73, 74},
	"w2k8":    {76, 77},
	"win7":    {103, 105, 111},
	"win8":    {112, 113, 114, 115, 117, 118}, // 8.1, and the servers 2012 and 2012 R2
	"win10":   {116, 119, 120, 121},           // and the servers 2016 and 2019
	"win11":   {122, 123},                     // and the server 2022
	"l24":     {97, 98},
	"l26":     {36, 79, 80, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 99, 100, 101, 106, 107, 108, 109},
	"solaris": {29, 81},
}

func osType(id string) string {
	n, err := strconv.Atoi(id)
	if err != nil {
		return "other"
	}
	for name, ids := range osTypes {
		if slices.Contains(ids, n) {
			return name
		}
	}
	return "other"
}
