package state

import (
	"maps"
	"slices"
	"strings"

	"etcpve/agents/qemu/cmdline"
)

// A Resumption is a saved state and what it needs.
type Resumption struct {
	Volume  string `json:"volume"`
	Machine string `json:"machine,omitempty"` // type with version
	CPU     string `json:"cpu,omitempty"`     // as given to QEMU
	HostMTU string `json:"mtu,omitempty"`     // of each NIC that offers one

	Suspended bool `json:"-"` // the configuration names it, and stops to do so
}

// pinned reports whether the machine type says which rules made the guest's
// hardware, as it does where Proxmox VE saved the state: its QEMU adds "+pveN" to
// the type, and what came before that noted no CPU. A state that was saved here
// has hardware by the rules of the guest's configuration, on whatever version the
// QEMU of the node was.
func (r Resumption) pinned() bool { return strings.Contains(r.Machine, "+pve") || r.CPU == "" }

// On returns the configuration with the hardware that the state was saved on.
func (r Resumption) On(c cmdline.Config) cmdline.Config {
	c = maps.Clone(c)
	c[cmdline.RunningMTU] = r.HostMTU
	if r.Machine == "" || !r.pinned() {
		return c
	}
	// The type stands first, or behind its name.
	parts := []string{r.Machine}
	for part := range strings.SplitSeq(c["machine"], ",") {
		if key, _, named := strings.Cut(part, "="); part != "" && named && key != "type" {
			parts = append(parts, part)
		}
	}
	c["machine"] = strings.Join(parts, ",")
	return c
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
	return append(args, "-incoming", "defer")
}
