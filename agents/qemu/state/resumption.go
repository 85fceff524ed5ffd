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

	Suspended bool `json:"-"` // the configuration names it, and stops to do so
}

// On returns the configuration with the machine that the state was saved on.
func (r Resumption) On(c cmdline.Config) cmdline.Config {
	if r.Machine == "" {
		return c
	}
	c = maps.Clone(c)
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
	return append(args, "-incoming", "defer")
}
