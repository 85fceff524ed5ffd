package hardware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/cfs/format/property"
)

// Mappings are the names that the cluster has for devices and directories of
// its nodes.
type Mappings struct{ Tree, Node string }

// An entry is what a name stands for on one node.
type entry map[string]string

var (
	mappingHead = regexp.MustCompile(`^(\S+)\s*$`)
	mappingProp = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
)

// lookup returns the entries of a name on this node, and its other properties.
func (m Mappings) lookup(kind, id string) (here []entry, props map[string]string, err error) {
	name := "mapping/" + kind + ".cfg"
	content, err := os.ReadFile(filepath.Join(m.Tree, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	props, found, within := map[string]string{}, false, false
	for line := range strings.Lines(string(content)) {
		if head := mappingHead.FindStringSubmatch(line); head != nil {
			within = head[1] == id
			found = found || within
			continue
		}
		prop := mappingProp.FindStringSubmatch(line)
		if prop == nil || !within || strings.HasPrefix(prop[1], "#") {
			continue
		}
		if prop[1] != "map" {
			props[prop[1]] = prop[2]
			continue
		}
		parts, err := property.Split(prop[2])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %s: %w", name, id, err)
		}
		e := entry{}
		for _, p := range parts {
			e[p.Key] = p.Value
		}
		if e["node"] == m.Node {
			here = append(here, e)
		}
	}
	switch {
	case !found:
		return nil, nil, fmt.Errorf("mapping '%s' is not in %s", id, name)
	case len(here) == 0:
		return nil, nil, fmt.Errorf("mapping '%s' stands for nothing on node '%s'", id, m.Node)
	}
	return here, props, nil
}

// USB returns the device of a name as a usb key has it: by its port if the
// mapping says one, else by vendor and product.
func (m Mappings) USB(id string) (string, error) {
	here, _, err := m.lookup("usb", id)
	if err != nil {
		return "", err
	}
	if path := here[0]["path"]; path != "" {
		return path, nil
	}
	if here[0]["id"] == "" {
		return "", fmt.Errorf("mapping '%s' has neither path nor id", id)
	}
	return here[0]["id"], nil
}

// PCI returns the devices that a name offers, in order.
func (m Mappings) PCI(id string) (devices []cmdline.PCIDevice, err error) {
	here, props, err := m.lookup("pci", id)
	for _, e := range here {
		devices = append(devices, cmdline.PCIDevice{Address: e["path"], Mediated: props["mdev"] == "1"})
	}
	return devices, err
}

// Directory returns the path of a name.
func (m Mappings) Directory(id string) (string, error) {
	here, _, err := m.lookup("directory", id)
	if err != nil {
		return "", err
	}
	path := here[0]["path"]
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return "", fmt.Errorf("mapping '%s': %q is not a directory of this node", id, path)
	}
	return path, nil
}
