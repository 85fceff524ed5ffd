package confidential

import "testing"

func TestObjects(t *testing.T) {
	all := Encryption{CBit: 51, ReducedBits: 6, SEV: true, ES: true, SNP: true, TDX: true}
	for _, c := range []struct {
		name  string
		guest Guest
		node  Encryption
		want  string // the argument, or the error
	}{
		{"none", Guest{}, all, ""},
		{"std", Guest{SEV: map[string]string{"type": "std"}, UEFI: true}, all, "sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=6,policy=0x8"},
		{"std, strict", Guest{SEV: map[string]string{"type": "std", "no-debug": "1", "no-key-sharing": "1", "kernel-hashes": "1"}, UEFI: true}, all,
			"sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=6,policy=0xb,kernel-hashes=on"},
		{"es", Guest{SEV: map[string]string{"type": "es"}, UEFI: true}, all, "sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=6,policy=0xc"},
		{"snp", Guest{SEV: map[string]string{"type": "snp"}, UEFI: true}, all, "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=6,policy=0xb0000"},
		{"snp, strict", Guest{SEV: map[string]string{"type": "snp", "allow-smt": "0", "no-debug": "1"}, UEFI: true}, all,
			"sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=6,policy=0x20000"},
		{"tdx", Guest{TDX: map[string]string{"type": "tdx"}, UEFI: true, Q35: true}, all,
			`{"id":"tdx0","qom-type":"tdx-guest","quote-generation-socket":{"cid":"2","port":"4050","type":"vsock"}}`},
		{"tdx, alone", Guest{TDX: map[string]string{"type": "tdx", "attestation": "0"}, UEFI: true, Q35: true}, all, `{"id":"tdx0","qom-type":"tdx-guest"}`},
		{"a node without", Guest{SEV: map[string]string{"type": "es"}, UEFI: true}, Encryption{SEV: true}, "this node cannot encrypt the memory of guests"},
		{"without UEFI", Guest{SEV: map[string]string{"type": "es"}}, all, "needs bios: ovmf"},
	} {
		_, got, _, err := Object(c.guest, c.node)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}
