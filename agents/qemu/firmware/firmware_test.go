package firmware

import "testing"

func TestBuilds(t *testing.T) {
	for _, c := range []struct {
		guest Guest
		want  Build
	}{
		{Guest{}, Build{Code: "/s/OVMF/OVMF_CODE.fd", Vars: "/s/OVMF/OVMF_VARS.fd", Size: 131072}},
		{Guest{Large: true}, Build{Code: "/s/OVMF/OVMF_CODE_4M.fd", Vars: "/s/OVMF/OVMF_VARS_4M.fd", Size: 540672}},
		{Guest{Large: true, Keys: true}, Build{Code: "/s/OVMF/OVMF_CODE_4M.fd", Vars: "/s/OVMF/OVMF_VARS_4M.ms.fd", Size: 540672}},
		{Guest{Large: true, Keys: true, Q35: true}, Build{Code: "/s/OVMF/OVMF_CODE_4M.secboot.fd", Vars: "/s/OVMF/OVMF_VARS_4M.ms.fd", Size: 540672}},
		{Guest{ARM: true, Keys: true}, Build{Code: "/s/AAVMF/AAVMF_CODE.fd", Vars: "/s/AAVMF/AAVMF_VARS.ms.fd", Size: 67108864}},
		{Guest{Confidential: "es", Large: true}, Build{Code: "/s/OVMF/OVMF_SEV_CODE_4M.fd", Vars: "/s/OVMF/OVMF_SEV_VARS_4M.fd", Size: 540672}},
		{Guest{Confidential: "snp"}, Build{Whole: "/s/OVMF/OVMF_SEV_4M.fd"}},
		{Guest{Confidential: "tdx"}, Build{Whole: "/s/OVMF/OVMF_TDX_4M.fd"}},
	} {
		if got := Choose("/s/OVMF", c.guest); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.guest, got, c.want)
		}
	}
}
