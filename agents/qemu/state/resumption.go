package state

import (
	"maps"
	"slices"
	"strings"

	"etcpve/agents/qemu/cmdline"
)

// A Resumption is a saved state and what it needs. Without a state it is what one
// start does in another way than the configuration says.
type Resumption struct {
	Volume  string `json:"volume,omitempty"`
	Machine string `json:"machine,omitempty"` // type with version; without a state, options behind it
	CPU     string `json:"cpu,omitempty"`     // as given to QEMU
	HostMTU string `json:"mtu,omitempty"`     // of each NIC that offers one

	Suspended bool `json:"-"` // the configuration names it, and stops to do so
	Arrives   bool `json:"-"` // it comes from another node instead of a volume
}

// pinned reports whether the machine type says which rules made the guest's
// hardware, as it does where Proxmox VE saved the state: its QEMU adds "+pveN" to
// the type, and what came before that noted no CPU. A state that was saved here
// has hardware by the rules of the guest's configuration, on whatever version the
// QEMU of the node was.
//
// Without a state there is no hardware to be kept.
func (r Resumption) pinned() bool {
	return strings.Contains(r.Machine, "+pve") || r.CPU == "" || !r.Waits()
}

// Waits reports whether QEMU has to wait for a state.
func (r Resumption) Waits() bool { return r.Volume != "" || r.Arrives }

// On returns the configuration with the hardware that the state was saved on.
func (r Resumption) On(c cmdline.Config) cmdline.Config {
	c = maps.Clone(c)
	c[cmdline.RunningMTU] = r.HostMTU
	if r.Machine == "" || !r.pinned() {
		return c
	}
	c["machine"] = r.machine(c["machine"])
	return c
}

// machine is a setting with another type. The type stands first, or behind its
// name; other options stay unless they are given too.
func (r Resumption) machine(setting string) string {
	parts := strings.Split(r.Machine, ",")
	given := func(key string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(p, key+"=") })
	}
	for part := range strings.SplitSeq(setting, ",") {
		if key, _, named := strings.Cut(part, "="); named && key != "type" && !given(key) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ",")
}

// Arguments makes a command line wait for the state.
func (r Resumption) Arguments(args []string) []string {
	args = slices.Clone(args)
	if i := slices.Index(args, "-cpu"); i >= 0 && i+1 < len(args) && r.CPU != "" {
		args[i+1] = r.CPU
	}
	if i := slices.Index(args, "-machine"); i >= 0 && i+1 < len(args) && r.Machine != "" && !r.pinned() {
		options := strings.Split(args[i+1], ",")
		for k, option := range options {
			if strings.HasPrefix(option, "type=") {
				options[k] = "type=" + r.Machine
			}
		}
		args[i+1] = strings.Join(options, ",")
	}
	if !r.Waits() {
		return args
	}
	return append(args, "-incoming", "defer")
}
