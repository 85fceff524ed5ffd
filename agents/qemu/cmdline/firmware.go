package cmdline

import (
	"fmt"
	"path/filepath"

	"etcpve/agents/qemu/qdev"
)

// Sizes of the OVMF variable stores; a raw image may be larger, which flash
// must not be.
const (
	efi2M = 128 << 10
	efi4M = 528 << 10
)

func efiSize(o Options) int {
	if o["efitype"] == "4m" {
		return efi4M
	}
	return efi2M
}

// firmware adds UEFI with its variables on efidisk0, or on a volatile copy of
// the template if there is no such disk.
func (b *builder) firmware() error {
	switch bios := b.config["bios"]; bios {
	case "", "seabios":
		return nil
	case "ovmf":
	default:
		return keyErr("bios", "%q is neither seabios nor ovmf", bios)
	}
	o, err := b.config.Options("efidisk0", "file")
	if err != nil {
		return err
	}
	code, vars := "OVMF_CODE.fd", "OVMF_VARS.fd"
	if o["efitype"] == "4m" {
		code, vars = "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
		if o.Bool("pre-enrolled-keys", false) {
			vars = "OVMF_VARS_4M.ms.fd"
			if b.machine.q35 {
				code = "OVMF_CODE_4M.secboot.fd" // relies on SMM, which only q35 has
			}
		}
	}
	if !isVolume(o["file"]) {
		copied := b.runFile("efivars.fd")
		b.cmd.Copies = append(b.cmd.Copies, Copy{From: filepath.Join(b.host.Firmware, vars), To: copied})
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
		b.fillVariables(disk, vars)
	}
	b.arg("-blockdev", qdev.JSON(map[string]any{"driver": "raw", "node-name": "pflash0", "read-only": true,
		"file": map[string]any{"driver": "file", "filename": filepath.Join(b.host.Firmware, code)}}))
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
		b.cmd.Copies = append(b.cmd.Copies, Copy{From: filepath.Join(b.host.Firmware, vars), To: path})
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
		"-tpmdev", "emulator,id=tpmdev,chardev=tpmchar", "-device", "tpm-tis,tpmdev=tpmdev")
	return nil
}
