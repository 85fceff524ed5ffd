package cmdline

import (
	"fmt"
	"path/filepath"

	"etcpve/agents/qemu/qdev"
)

// Sizes of the stores for the variables of UEFI; a raw image may be larger,
// which flash must not be.
const (
	efi2M  = 128 << 10
	efi4M  = 528 << 10
	efiARM = 64 << 20
)

// A firmwareImage is a build of UEFI: its code with the template of its
// variables, or the name of one that has both in one read-only file.
type firmwareImage struct {
	Code, Vars string
	Size       int // of the variables
	Whole      string
}

// firmwareImage picks the build for a guest. The one with secure boot relies on
// SMM, which only q35 has; a guest whose memory is encrypted needs its own.
func (b *builder) firmwareImage(o Options) firmwareImage {
	at := func(name string) string { return filepath.Join(b.host.Firmware, name) }
	keys := o.Bool("pre-enrolled-keys", false)
	switch kind := b.confidential(); {
	case b.machine.arm:
		dir := filepath.Join(filepath.Dir(b.host.Firmware), "AAVMF")
		vars := map[bool]string{true: "AAVMF_VARS.ms.fd", false: "AAVMF_VARS.fd"}[keys]
		return firmwareImage{Code: filepath.Join(dir, "AAVMF_CODE.fd"), Vars: filepath.Join(dir, vars), Size: efiARM}
	case kind == "snp":
		return firmwareImage{Whole: at("OVMF_SEV_4M.fd")}
	case kind == "tdx":
		return firmwareImage{Whole: at("OVMF_TDX_4M.fd")}
	case kind != "":
		return firmwareImage{Code: at("OVMF_SEV_CODE_4M.fd"), Vars: at("OVMF_SEV_VARS_4M.fd"), Size: efi4M}
	case o["efitype"] != "4m":
		return firmwareImage{Code: at("OVMF_CODE.fd"), Vars: at("OVMF_VARS.fd"), Size: efi2M}
	case keys && b.machine.q35:
		return firmwareImage{Code: at("OVMF_CODE_4M.secboot.fd"), Vars: at("OVMF_VARS_4M.ms.fd"), Size: efi4M}
	case keys:
		return firmwareImage{Code: at("OVMF_CODE_4M.fd"), Vars: at("OVMF_VARS_4M.ms.fd"), Size: efi4M}
	}
	return firmwareImage{Code: at("OVMF_CODE_4M.fd"), Vars: at("OVMF_VARS_4M.fd"), Size: efi4M}
}

// firmware adds UEFI with its variables on efidisk0, or on a volatile copy of
// the template if there is no such disk.
func (b *builder) firmware() error {
	switch bios := b.config["bios"]; bios {
	case "", "seabios":
		if b.machine.arm {
			return keyErr("bios", "an aarch64 guest needs bios: ovmf")
		}
		return nil
	case "ovmf":
	default:
		return keyErr("bios", "%q is neither seabios nor ovmf", bios)
	}
	o, err := b.config.Options("efidisk0", "file")
	if err != nil {
		return err
	}
	image := b.firmwareImage(o)
	if image.Whole != "" {
		b.arg("-bios", image.Whole)
		return nil
	}
	if cert := o["ms-cert"]; o.Bool("pre-enrolled-keys", false) && cert != "" && cert != "2011" {
		b.warn("efidisk0", "a new variable store gets the certificates of the firmware package, whatever ms-cert says")
	}
	if !isVolume(o["file"]) {
		copied := b.runFile("efivars.fd")
		b.cmd.Copies = append(b.cmd.Copies, Copy{From: image.Vars, To: copied})
		o["file"], o["format"] = copied, "raw"
	}
	if err := b.throttleGroup("efidisk0", o); err != nil {
		return err
	}
	disk, err := b.blockdev("efidisk0", o, false)
	if err != nil {
		return err
	}
	if len(b.cmd.Copies) == 0 {
		b.fillVariables(disk, image.Vars)
	}
	b.has["pflash"] = true
	b.arg("-blockdev", qdev.JSON(map[string]any{"driver": "raw", "node-name": "pflash0", "read-only": true,
		"file": map[string]any{"driver": "file", "filename": image.Code}}))
	b.arg("-blockdev", qdev.JSON(disk))
	if b.machine.q35 && b.machine.pinned(8, 0) {
		b.arg("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
	}
	return nil
}

// fillVariables asks for a raw variable store to be made from the template
// where the file does not exist yet.
func (b *builder) fillVariables(disk map[string]any, vars string) {
	format, _ := disk["file"].(map[string]any)
	file, _ := format["file"].(map[string]any)
	path, _ := file["filename"].(string)
	if format["driver"] == "raw" && file["driver"] == "file" {
		b.cmd.Copies = append(b.cmd.Copies, Copy{From: vars, To: path})
	}
}

// tpm adds the device of an emulator that has to be started first.
func (b *builder) tpm() error {
	o, err := b.config.Options("tpmstate0", "file")
	if err != nil || !isVolume(o["file"]) {
		return err
	}
	v, err := b.Volume(o["file"])
	if err != nil {
		return &KeyError{Key: "tpmstate0", Err: err}
	}
	if v.Format != "" && v.Format != "raw" {
		return keyErr("tpmstate0", "the emulator needs a raw volume, not %s", v.Format)
	}
	b.cmd.TPM = &TPM{State: v.Path, Socket: b.runFile("swtpm"), Version2: o["version"] == "v2.0"}
	b.arg("-chardev", fmt.Sprintf("socket,id=tpmchar,path=%s", qdev.Escape(b.cmd.TPM.Socket)),
		"-tpmdev", "emulator,id=tpmdev,chardev=tpmchar", "-device", map[bool]string{true: "tpm-tis-device", false: "tpm-tis"}[b.machine.arm]+",tpmdev=tpmdev")
	return nil
}
