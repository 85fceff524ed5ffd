// Package clouddrive makes the drive from which cloud-init in a guest reads.
//
// It owns how the image comes into the drive's volume and the note in the
// configuration of what it holds. What cloud-init is told is decided elsewhere,
// and a volume that a QEMU has open is never written to here.
package clouddrive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"etcpve/agents/host"
	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/iso"
	"etcpve/agents/qemu/qdev"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Volumes finds the image behind a volume ID or an absolute path.
type Volumes interface {
	Resolve(ctx context.Context, id string) (blockdev.Volume, error)
}

// A Drive is the cloud-init drive of one VM.
type Drive struct {
	VMID    uint32
	Config  string // path of the configuration file
	RunDir  string // of the node's VMs
	Volumes Volumes
}

// Data returns what the drive of a configuration has to hold.
func (d Drive) Data(ctx context.Context, c cmdline.Config) (cloudinit.Data, error) {
	return cloudinit.Make(d.VMID, c, cloudinit.ThisNode(func(id string) ([]byte, error) {
		v, err := d.Volumes.Resolve(ctx, id)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(v.Path)
	}))
}

// Fill makes the cloud-init drive of a VM anew, if it has one. QEMU
// must not have it open.
func (d Drive) Fill(ctx context.Context, c cmdline.Config) error {
	key := cloudinit.Drive(c)
	if key == "" {
		return nil
	}
	put, err := d.Prepare(ctx, c, key)
	if err != nil {
		return err
	}
	return put()
}

// Prepare makes what the drive under a key has to hold, and changes nothing yet:
// whoever takes a drive from a guest learns before what stands in the way. QEMU
// must not have the volume open when put writes to it.
func (d Drive) Prepare(ctx context.Context, c cmdline.Config, key string) (put func() error, err error) {
	data, err := d.Data(ctx, c)
	if err != nil {
		return nil, err
	}
	image, err := iso.Image(data.Label, data.Files)
	if err != nil {
		return nil, &cmdline.KeyError{Key: key, Err: err}
	}
	o, err := c.Options(key, "file")
	if err != nil {
		return nil, err
	}
	failed := func(err error) error {
		return &cmdline.KeyError{Key: key, Err: fmt.Errorf("cloud-init: %w", err)}
	}
	v, err := d.Volumes.Resolve(ctx, o["file"])
	if err != nil {
		return nil, failed(err)
	}
	return func() error {
		if err := d.put(ctx, v, image); err != nil {
			return failed(err)
		}
		return nil
	}, nil
}

// put writes an image to the beginning of a volume.
func (d Drive) put(ctx context.Context, v blockdev.Volume, image []byte) error {
	if v.Format == "raw" && v.Protocol == nil {
		return writeRaw(v.Path, image)
	}
	name := cmdline.RunFile(d.RunDir, d.VMID, "cloudinit")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		return err
	}
	defer os.Remove(name)
	target := v.Path
	if v.Protocol != nil {
		target = "json:" + qdev.JSON(v.Protocol)
	}
	argv := []string{"qemu-img", "convert", "-q", "-n", "-f", "raw", "-O", v.Format, name, target}
	_, err := host.System{}.Run(ctx, host.Command{Argv: argv})
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

// Note keeps with the configuration what its cloud-init drive holds, so
// that anybody can tell what has changed since.
func (d Drive) Note(c cmdline.Config) error {
	if cloudinit.Drive(c) == "" {
		return nil
	}
	content, err := os.ReadFile(d.Config)
	if err != nil {
		return err
	}
	file, _ := guestfile.Parse(layout.QEMU, d.VMID, string(content))
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
	return os.WriteFile(d.Config, []byte(updated), 0o640)
}
