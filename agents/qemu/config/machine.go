package config

import "etcpve/agents/qemu/machine"

// IsARM reports whether a guest is for aarch64, on a node that is or is not.
func (c Config) IsARM(node string) bool {
	return c["arch"] == "aarch64" || c["arch"] == "" && node == "aarch64"
}

// MachineType reads the machine type of a guest.
func (c Config) MachineType(arm bool, node string) (machine.Type, Options, error) {
	o, err := c.Options("machine", "type")
	if err != nil {
		return machine.Type{}, nil, err
	}
	meta, err := c.Options("meta", "")
	if err != nil {
		return machine.Type{}, nil, err
	}
	t, err := machine.Parse(machine.Guest{Options: o, ARM: arm, Windows: c.Windows() > 0, Created: meta["creation-qemu"], Node: node})
	if err != nil {
		err = &KeyError{Key: "machine", Err: err}
	}
	return t, o, err
}

// ManyUSBOn reports it for a machine type that is known.
func (c Config) ManyUSBOn(m machine.Type) bool {
	return m.Pinned(7, 1) && (c["ostype"] == "l26" || c.Windows() > 7)
}

// ManyUSB reports whether a guest has all its USB devices on one controller.
func (c Config) ManyUSB() bool {
	m, _, err := c.MachineType(c["arch"] == "aarch64", "")
	return err == nil && c.ManyUSBOn(m)
}
