package cmdline

import (
	"cmp"
	"fmt"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/firmware"
	"etcpve/agents/qemu/qdev"
)

// build is the one of UEFI for the guest.
func (b *builder) build(o Options) (firmware.Build, error) {
	c, err := b.confidential()
	return firmware.Choose(b.host.Firmware, firmware.Guest{
		ARM: b.machine.ARM, Q35: b.machine.Q35, Large: o["efitype"] == "4m", Keys: o.Bool("pre-enrolled-keys", false), Confidential: c.Kind(),
	}), err
}

// volatileVars is the ending of the file with the variables of a guest that has
// no disk for them.
const volatileVars = "efivars.fd"

// firmware adds UEFI with its variables on efidisk0, or on a volatile copy of
// the template if there is no such disk.
func (b *builder) firmware() error {
	switch bios := b.config["bios"]; bios {
	case "", "seabios":
		if b.machine.ARM {
			return config.Errorf("bios", "an aarch64 guest needs bios: ovmf")
		}
		return nil
	case "ovmf":
	default:
		return config.Errorf("bios", "%q is neither seabios nor ovmf", bios)
	}
	o, err := b.config.Options("efidisk0", "file")
	if err != nil {
		return err
	}
	image, err := b.build(o)
	if err != nil {
		return err
	}
	if image.Whole != "" {
		b.arg("-bios", image.Whole)
		return nil
	}
	if cert := o["ms-cert"]; o.Bool("pre-enrolled-keys", false) && cert != "" && cert != "2011" {
		b.warn("efidisk0", "a new variable store gets the certificates of the firmware package, whatever ms-cert says")
	}
	if !isVolume(o["file"]) {
		copied := b.runFile(volatileVars)
		o["file"], o["format"] = copied, "raw"
	}
	if err := b.throttleGroup("efidisk0", o); err != nil {
		return err
	}
	disk, err := b.blockdev("efidisk0", o, false)
	if err != nil {
		return err
	}
	store, err := b.volume("efidisk0", o, false)
	if err != nil {
		return err
	}
	store.Format = cmp.Or(o["format"], store.Format)
	if !b.config.Bool("template", false) {
		b.cmd.Copies = append(b.cmd.Copies, Copy{From: image.Vars, To: store})
	}
	b.has["pflash"] = true
	b.arg("-blockdev", qdev.JSON(map[string]any{"driver": "raw", "node-name": "pflash0", "read-only": true,
		"file": map[string]any{"driver": "file", "filename": image.Code}}))
	b.arg("-blockdev", qdev.JSON(disk))
	if b.machine.Q35 && b.machine.Pinned(8, 0) {
		b.arg("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
	}
	return nil
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
		return config.Errorf("tpmstate0", "the emulator needs a raw volume, not %s", v.Format)
	}
	b.cmd.TPM = &TPM{State: v.Path, Socket: b.runFile("swtpm"), Version2: o["version"] == "v2.0"}
	b.arg("-chardev", fmt.Sprintf("socket,id=tpmchar,path=%s", qdev.Escape(b.cmd.TPM.Socket)),
		"-tpmdev", "emulator,id=tpmdev,chardev=tpmchar", "-device", map[bool]string{true: "tpm-tis-device", false: "tpm-tis"}[b.machine.ARM]+",tpmdev=tpmdev")
	return nil
}
