// Package firmware picks the build of UEFI for a guest and makes the store of
// its variables.
//
// It owns the names that Debian gives the builds. It never touches a store that
// a guest has written to.
package firmware

import "path/filepath"

// Sizes of the stores for the variables of UEFI; a raw image may be larger,
// which flash must not be.
const (
	small = 128 << 10
	large = 528 << 10
	arm   = 64 << 20
)

// A Guest is what the choice depends on.
type Guest struct {
	ARM, Q35     bool
	Large        bool   // efitype=4m
	Keys         bool   // Microsoft's are enrolled, so that Secure Boot is on
	Confidential string // how its memory is encrypted: std, es, snp, tdx or not
}

// A Build is UEFI's code with the template of its variables, or a file that has
// both and is read only.
type Build struct {
	Code, Vars string
	Size       int // of the variables, in bytes
	Whole      string
}

// Choose returns the build for a guest, in the directory of OVMF or the one
// beside it. The one with Secure Boot relies on SMM, which only q35 has; a
// guest whose memory is encrypted needs its own.
func Choose(dir string, g Guest) Build {
	at := func(name string) string { return filepath.Join(dir, name) }
	switch {
	case g.ARM:
		aavmf := filepath.Join(filepath.Dir(dir), "AAVMF")
		vars := map[bool]string{true: "AAVMF_VARS.ms.fd", false: "AAVMF_VARS.fd"}[g.Keys]
		return Build{Code: filepath.Join(aavmf, "AAVMF_CODE.fd"), Vars: filepath.Join(aavmf, vars), Size: arm}
	case g.Confidential == "snp":
		return Build{Whole: at("OVMF_SEV_4M.fd")}
	case g.Confidential == "tdx":
		return Build{Whole: at("OVMF_TDX_4M.fd")}
	case g.Confidential != "":
		return Build{Code: at("OVMF_SEV_CODE_4M.fd"), Vars: at("OVMF_SEV_VARS_4M.fd"), Size: large}
	case !g.Large:
		return Build{Code: at("OVMF_CODE.fd"), Vars: at("OVMF_VARS.fd"), Size: small}
	case g.Keys && g.Q35:
		return Build{Code: at("OVMF_CODE_4M.secboot.fd"), Vars: at("OVMF_VARS_4M.ms.fd"), Size: large}
	case g.Keys:
		return Build{Code: at("OVMF_CODE_4M.fd"), Vars: at("OVMF_VARS_4M.ms.fd"), Size: large}
	}
	return Build{Code: at("OVMF_CODE_4M.fd"), Vars: at("OVMF_VARS_4M.fd"), Size: large}
}
