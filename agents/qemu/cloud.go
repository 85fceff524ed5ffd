package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/iso"
	"etcpve/agents/qemu/qdev"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// CloudInit returns what the cloud-init drive of a configuration has to hold.
func (a *Agent) CloudInit(ctx context.Context, vmid uint32, c cmdline.Config) (cloudinit.Data, error) {
	return cloudinit.Make(vmid, c, cloudinit.ThisNode(func(id string) ([]byte, error) {
		v, err := a.Volumes.Resolve(ctx, id)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(v.Path)
	}))
}

// fillCloudInit makes the cloud-init drive of a VM anew, if it has one. QEMU
// must not have it open.
func (a *Agent) fillCloudInit(ctx context.Context, vmid uint32, c cmdline.Config) error {
	key := cloudinit.Drive(c)
	if key == "" {
		return nil
	}
	d, err := a.CloudInit(ctx, vmid, c)
	if err != nil {
		return err
	}
	image, err := iso.Image(d.Label, d.Files)
	if err != nil {
		return &cmdline.KeyError{Key: key, Err: err}
	}
	o, err := c.Options(key, "file")
	if err != nil {
		return err
	}
	v, err := a.Volumes.Resolve(ctx, o["file"])
	if err == nil {
		err = a.putImage(ctx, vmid, v, image)
	}
	if err != nil {
		return &cmdline.KeyError{Key: key, Err: fmt.Errorf("cloud-init: %w", err)}
	}
	return nil
}

// putImage writes an image to the beginning of a volume.
func (a *Agent) putImage(ctx context.Context, vmid uint32, v cmdline.Volume, image []byte) error {
	if v.Format == "raw" && v.Protocol == nil {
		return writeRaw(v.Path, image)
	}
	name := cmdline.RunFile(a.RunDir, vmid, "cloudinit")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		return err
	}
	defer os.Remove(name)
	target := v.Path
	if v.Protocol != nil {
		target = "json:" + qdev.JSON(v.Protocol)
	}
	argv := []string{"qemu-img", "convert", "-q", "-n", "-f", "raw", "-O", v.Format, name, target}
	_, err := a.system.Run(ctx, host.Command{Argv: argv})
	return err
}

func writeRaw(path string, image []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	now := make([]byte, len(image))
	if _, err := io.ReadFull(f, now); err == nil && bytes.Equal(now, image) {
		return nil
	}
	if _, err := f.WriteAt(image, 0); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// noteCloudInit keeps with the configuration what its cloud-init drive holds, so
// that anybody can tell what has changed since.
func (a *Agent) noteCloudInit(vmid uint32, c cmdline.Config) error {
	if cloudinit.Drive(c) == "" {
		return nil
	}
	path := filepath.Join(a.Tree, a.confPath(vmid))
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, _ := guestfile.Parse(layout.QEMU, vmid, string(content))
	held := guestfile.NewSection()
	values := cloudinit.Values(c)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		held.Set(key, values[key])
	}
	file.Special["cloudinit"] = held
	updated := guestfile.Update(string(content), file)
	if updated == string(content) {
		return nil
	}
	return os.WriteFile(path, []byte(updated), 0o640)
}
