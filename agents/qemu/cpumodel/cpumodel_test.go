package cpumodel

import (
	"slices"
	"testing"
)

func TestModels(t *testing.T) {
	own := map[string]map[string]string{"mine": {"reported-model": "Haswell", "flags": "+avx2;-kvm_pv_unhalt", "phys-bits": "44"}}
	newest := func(int, int) bool { return true }
	old := func(int, int) bool { return false }
	for _, c := range []struct {
		name  string
		r     Request
		want  string
		warns int
	}{
		{"default", Request{QEMU: old}, "kvm64,+lahf_lm,+sep", 0},
		{"default under KVM", Request{KVM: true, QEMU: old}, "kvm64,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+lahf_lm,+sep", 0},
		{"without KVM", Request{NoKVM: true, QEMU: old}, "qemu64", 0},
		{"level", Request{Options: map[string]string{"cputype": "x86-64-v2"}, QEMU: old}, "qemu64,+pni,+popcnt,+sse4.1,+sse4.2,+ssse3", 0},
		{"own", Request{Options: map[string]string{"cputype": "custom-mine", "flags": "+aes"}, Models: own, KVM: true, QEMU: old},
			"Haswell,+aes,+avx2,enforce,+kvm_pv_eoi,-kvm_pv_unhalt,vendor=GenuineIntel,phys-bits=44", 1},
		{"hidden", Request{Options: map[string]string{"cputype": "EPYC", "hidden": "1"}, KVM: true, QEMU: old}, "EPYC,enforce,kvm=off,vendor=AuthenticAMD", 0},
		{"nested, AMD", Request{Options: map[string]string{"cputype": "host", "flags": "+nested-virt"}, KVM: true, Vendor: "AuthenticAMD", QEMU: old},
			"host,+kvm_pv_eoi,+kvm_pv_unhalt,+svm", 0},
		{"card of the node", Request{Options: map[string]string{"cputype": "host"}, KVM: true, GPU: true, Windows: 10, QEMU: old},
			"host,hv_ipi,hv_relaxed,hv_reset,hv_runtime,hv_spinlocks=0x1fff,hv_stimer,hv_synic,hv_time,hv_vapic,hv_vendor_id=etcpve,hv_vpindex,kvm=off,+kvm_pv_eoi,+kvm_pv_unhalt", 0},
		{"host bits", Request{Options: map[string]string{"cputype": "host", "phys-bits": "host", "guest-phys-bits": "40"}, KVM: true, QEMU: newest},
			"host,+kvm_pv_eoi,+kvm_pv_unhalt,host-phys-bits=true,guest-phys-bits=40", 0},
		{"bits too new", Request{Options: map[string]string{"guest-phys-bits": "40"}, QEMU: old}, "kvm64,+lahf_lm,+sep", 1},
		{"bits too many", Request{Options: map[string]string{"cputype": "pentium3", "phys-bits": "40"}, QEMU: old}, "pentium3", 1},
		{"aarch64", Request{ARM: true, QEMU: old}, "max", 0},
		{"aarch64 under KVM", Request{ARM: true, KVM: true, Options: map[string]string{"flags": "-sve"}, QEMU: old}, "host,sve=off", 0},
	} {
		got, err := Of(c.r)
		if err != nil || got.String() != c.want || len(got.Warnings) != c.warns {
			t.Errorf("%s: %s, %q, %v\nwant %s", c.name, got, got.Warnings, err, c.want)
		}
	}
	if _, err := Of(Request{Options: map[string]string{"cputype": "custom-none"}, QEMU: old}); err == nil {
		t.Error("a model that is not defined was taken")
	}
	for name := range levels {
		if slices.Contains(narrow, levels[name].base) {
			t.Errorf("%s stands on a 32-bit model", name)
		}
	}
}
