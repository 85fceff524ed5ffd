// Package storages finds the volumes of VMs on storages of every type.
//
// It owns how what a storage says of a volume becomes what QEMU's command line
// needs of it. It never creates, changes or removes a volume.
package storages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/storage"
)

// A Resolver finds volumes on the storages of a node.
type Resolver struct{ storage.Catalog }

// Resolve returns how QEMU opens a volume. A device that is not there is
// activated first.
func (r Resolver) Resolve(ctx context.Context, id string) (blockdev.Volume, error) {
	if filepath.IsAbs(id) {
		return volumeAt(id)
	}
	at, err := r.Locate(id)
	if err != nil {
		return blockdev.Volume{}, err
	}
	if _, given := at.Config.Values["content"]; given {
		if err := at.Config.Keeps(at.Volume.Content); err != nil {
			return blockdev.Volume{}, err
		}
	}
	b, err := r.Blockdev(id, "")
	if err != nil {
		return blockdev.Volume{}, err
	}
	v := blockdev.Volume{Format: b.Format, Protocol: b.Node}
	if b.Path != "" {
		v, err = volumeAt(b.Path)
		if errors.Is(err, fs.ErrNotExist) {
			if err := r.ActivateVolumes(ctx, "", id); err != nil {
				return v, err
			}
			v, err = volumeAt(b.Path)
		}
		if err != nil {
			return v, fmt.Errorf("volume '%s': %w", id, err)
		}
		v.Format = b.Format
	}
	v.SyncOnly, v.BufferedSync = blocks(at.Config, v)
	return v, nil
}

// blocks tells where io_uring would hold QEMU up: always on LVM, where requests
// to volumes that are not there yet wait in the kernel, and in the client of
// CIFS; and on images that the kernel maps from Ceph, with a page cache above.
func blocks(c *storage.Config, v blockdev.Volume) (always, buffered bool) {
	return c.Type == "lvm" || c.Type == "cifs", c.Type == "rbd" && v.Device
}

// volumeAt returns the file or device at a path, in the format its name ends
// with.
func volumeAt(path string) (blockdev.Volume, error) {
	info, err := os.Stat(path)
	if err != nil {
		return blockdev.Volume{}, err
	}
	v := blockdev.Volume{Path: path, Format: "raw", Size: info.Size(), Device: info.Mode()&os.ModeDevice != 0}
	switch ext := strings.TrimPrefix(filepath.Ext(path), "."); ext {
	case "qcow2", "vmdk", "qed":
		v.Format = ext
	}
	return v, nil
}
