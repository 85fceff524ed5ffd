// Package confidential encrypts the memory of guests with what the node's CPU
// has for it.
//
// It owns the objects of QEMU for AMD's SEV and Intel's TDX and the bits of
// their policies. It never starts a guest in the clear that asked for more.
package confidential

import (
	"errors"
	"fmt"

	"etcpve/agents/qemu/qdev"
)

// Encryption is what the node's CPU can do for the memory of guests, as its
// vendor counts: the bit of a page table that marks an encrypted page, and how
// many bits of an address that costs.
type Encryption struct {
	CBit, ReducedBits int
	SEV, ES, SNP, TDX bool
}

// A Guest is one that may want it.
type Guest struct {
	SEV, TDX map[string]string // options of amd-sev and intel-tdx; nil if unset
	UEFI     bool
	Q35      bool
}

// Kind is how the guest wants its memory encrypted: std, es, snp, tdx or not.
func (g Guest) Kind() string {
	if g.SEV["type"] != "" {
		return g.SEV["type"]
	}
	return g.TDX["type"]
}

var errCannot = errors.New("this node cannot encrypt the memory of guests")

// Object returns the identifier of the object that encrypts a guest's memory
// and the argument that makes it; nothing for a guest that wants none. An error
// is about the key it comes with.
func Object(g Guest, e Encryption) (id, arg, key string, err error) {
	switch {
	case len(g.SEV) > 0:
		arg, err = sev(g, e)
		return "sev0", arg, "amd-sev", err
	case len(g.TDX) > 0:
		arg, err = tdx(g, e)
		return "tdx0", arg, "intel-tdx", err
	}
	return "", "", "", nil
}

func tdx(g Guest, e Encryption) (string, error) {
	if !e.TDX {
		return "", errCannot
	}
	if !g.UEFI || !g.Q35 {
		return "", errors.New("needs bios: ovmf and the machine type q35")
	}
	o := map[string]any{"qom-type": "tdx-guest", "id": "tdx0"}
	if truth(g.TDX["attestation"], true) {
		o["quote-generation-socket"] = map[string]any{"type": "vsock", "cid": or(g.TDX["vsock-cid"], "2"), "port": or(g.TDX["vsock-port"], "4050")}
	}
	return qdev.JSON(o), nil
}

func sev(g Guest, e Encryption) (string, error) {
	can, known := map[string]bool{"std": e.SEV, "es": e.ES, "snp": e.SNP}[g.SEV["type"]]
	switch {
	case !known:
		return "", fmt.Errorf("type %q is none of std, es, snp", g.SEV["type"])
	case !can:
		return "", errCannot
	case !g.UEFI:
		return "", errors.New("needs bios: ovmf")
	}
	driver, policy := "sev-guest", sevPolicy(g.SEV)
	if g.SEV["type"] == "snp" {
		driver, policy = "sev-snp-guest", snpPolicy(g.SEV)
	}
	d := qdev.New(driver, "id", "sev0", "cbitpos", e.CBit, "reduced-phys-bits", e.ReducedBits, "policy", fmt.Sprintf("0x%x", policy))
	if truth(g.SEV["kernel-hashes"], false) {
		d = d.With("kernel-hashes", true)
	}
	return d.String(), nil
}

// Bits of a policy: what the guest lets its host do.
const (
	sevNoDebug  = 1 << 0
	sevNoShare  = 1 << 1
	sevES       = 1 << 2
	sevNoSend   = 1 << 3
	snpSMT      = 1 << 16
	snpReserved = 1 << 17
	snpDebug    = 1 << 19
)

func sevPolicy(o map[string]string) int {
	policy := sevNoSend
	if o["type"] == "es" {
		policy |= sevES
	}
	if truth(o["no-debug"], false) {
		policy |= sevNoDebug
	}
	if truth(o["no-key-sharing"], false) {
		policy |= sevNoShare
	}
	return policy
}

func snpPolicy(o map[string]string) int {
	policy := snpReserved
	if truth(o["allow-smt"], true) {
		policy |= snpSMT
	}
	if !truth(o["no-debug"], false) {
		policy |= snpDebug
	}
	return policy
}

func or(value, def string) string {
	if value == "" {
		return def
	}
	return value
}

func truth(value string, def bool) bool {
	switch value {
	case "":
		return def
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
