package cmdline

import (
	"fmt"
	"strconv"

	"etcpve/agents/qemu/qdev"
)

// Encryption is what the node's CPU can do for the memory of guests, as its
// vendor counts: the bit of a page table that marks an encrypted page, and how
// many bits of an address that costs.
type Encryption struct {
	CBit, ReducedBits int
	SEV, ES, SNP, TDX bool
}

// confidential returns how the guest's memory is encrypted: std, es, snp, tdx
// or not at all.
func (b *builder) confidential() string {
	if o, err := b.config.Options("amd-sev", "type"); err == nil && o["type"] != "" {
		return o["type"]
	}
	o, _ := b.config.Options("intel-tdx", "type") // a value that cannot be split is refused by encryption
	return o["type"]
}

// Policy bits of a guest of AMD's SEV and of SEV-SNP.
const (
	sevNoDebug  = 1 << 0
	sevNoShare  = 1 << 1
	sevES       = 1 << 2
	sevNoSend   = 1 << 3
	snpSMT      = 1 << 16
	snpReserved = 1 << 17
	snpDebug    = 1 << 19
)

// encryption adds the object that encrypts the guest's memory and returns its
// identifier, "" if the guest wants none.
func (b *builder) encryption() (id string, err error) {
	if b.config["amd-sev"] != "" {
		return b.sev()
	}
	if b.config["intel-tdx"] == "" {
		return "", nil
	}
	o, err := b.config.Options("intel-tdx", "type")
	switch {
	case err != nil:
		return "", err
	case !b.kvm() || !b.host.Encryption.TDX:
		return "", keyErr("intel-tdx", "this node cannot encrypt the memory of guests")
	case b.config["bios"] != "ovmf" || !b.machine.q35:
		return "", keyErr("intel-tdx", "needs bios: ovmf and the machine type q35")
	}
	d := map[string]any{"qom-type": "tdx-guest", "id": "tdx0"}
	if o.Bool("attestation", true) {
		d["quote-generation-socket"] = map[string]any{"type": "vsock", "cid": o.text("vsock-cid", "2"), "port": o.text("vsock-port", "4050")}
	}
	b.arg("-object", qdev.JSON(d))
	return "tdx0", nil
}

func (o Options) text(key, def string) string {
	if o[key] == "" {
		return def
	}
	return o[key]
}

func (b *builder) sev() (id string, err error) {
	o, err := b.config.Options("amd-sev", "type")
	if err != nil {
		return "", err
	}
	e := b.host.Encryption
	can, known := map[string]bool{"std": e.SEV, "es": e.ES, "snp": e.SNP}[o["type"]]
	switch {
	case !known:
		return "", keyErr("amd-sev", "type %q is none of std, es, snp", o["type"])
	case !b.kvm() || !can:
		return "", keyErr("amd-sev", "this node cannot encrypt the memory of guests")
	case b.config["bios"] != "ovmf":
		return "", keyErr("amd-sev", "needs bios: ovmf")
	}
	policy, driver := o.sevPolicy(), "sev-guest"
	if o["type"] == "snp" {
		driver = "sev-snp-guest"
	}
	d := qdev.New(driver, "id", "sev0", "cbitpos", e.CBit, "reduced-phys-bits", e.ReducedBits, "policy", fmt.Sprintf("0x%s", strconv.FormatInt(int64(policy), 16)))
	if o.Bool("kernel-hashes", false) {
		d = d.With("kernel-hashes", true)
	}
	b.object(d)
	return "sev0", nil
}

// sevPolicy is what the guest lets its host do. Debugging and, for SNP, two
// threads of a core are let unless they are forbidden.
func (o Options) sevPolicy() (policy int) {
	if o["type"] == "snp" {
		policy = snpReserved
		if o.Bool("allow-smt", true) {
			policy |= snpSMT
		}
		if !o.Bool("no-debug", false) {
			policy |= snpDebug
		}
		return policy
	}
	if o["type"] == "es" {
		policy |= sevES
	}
	if o.Bool("no-debug", false) {
		policy |= sevNoDebug
	}
	if o.Bool("no-key-sharing", false) {
		policy |= sevNoShare
	}
	return policy | sevNoSend
}
