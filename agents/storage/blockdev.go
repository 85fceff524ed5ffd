package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/storage/image"
)

// A Blockdev is how QEMU and qemu-img open a volume.
type Blockdev struct {
	Format string // the driver on top: raw, qcow2, vmdk

	// Node is the protocol below it, in the words of QMP's blockdev-add: its
	// "driver" is file, host_device, rbd, iscsi or gluster.
	Node map[string]any

	// Path is the file or device, "" if QEMU reaches the volume by itself.
	Path string

	// Internal is the name of the snapshot inside the image that is meant, "" if
	// Node leads to what is meant already.
	Internal string

	// Chain are the paths of the volume and of the states it stands on, newest
	// first; nil if it keeps them otherwise.
	Chain []string
}

// QEMUSnapshots reports whether QEMU itself takes the snapshots of a volume
// that a running guest has open: blockdev-snapshot-internal-sync and
// blockdev-snapshot-delete-internal-sync. Else the storage does, while the guest
// is paused.
func (b Blockdev) QEMUSnapshots() bool {
	return b.Format == "qcow2" && b.Chain == nil || b.Node["driver"] == "rbd"
}

// QEMUResizes reports whether QEMU's block_resize changes the size of a volume
// that a running guest has open. Else the storage does first, and block_resize
// only tells the guest.
func (b Blockdev) QEMUResizes() bool { return !b.Device() && b.Node["driver"] != "iscsi" }

// Device reports whether the volume is a block device of the node.
func (b Blockdev) Device() bool { return b.Node["driver"] == "host_device" }

// ImageOpts returns the argument of qemu-img's --image-opts.
func (b Blockdev) ImageOpts() string {
	options := []string{"driver=" + b.Format}
	flatten("file", b.Node, func(key, value string) {
		options = append(options, key+"="+strings.ReplaceAll(value, ",", ",,"))
	})
	return strings.Join(options, ",")
}

// flatten calls f for each value of a tree of options, in the dotted form.
func flatten(prefix string, tree any, f func(key, value string)) {
	switch node := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(node)) {
			flatten(prefix+"."+key, node[key], f)
		}
	case []any:
		for i, value := range node {
			flatten(fmt.Sprintf("%s.%d", prefix, i), value, f)
		}
	case bool:
		f(prefix, map[bool]string{true: "on", false: "off"}[node])
	default:
		f(prefix, fmt.Sprint(node))
	}
}

// Filename returns the name that stands for the volume where only a name fits,
// such as the backing file of an image.
func (b Blockdev) Filename() string {
	if b.Path != "" {
		return b.Path
	}
	text, err := json.Marshal(map[string]any{"driver": b.Format, "file": b.Node})
	if err != nil {
		return "" // cannot happen: the node consists of strings, numbers and maps
	}
	return "json:" + string(text)
}

// Blockdev returns how QEMU opens a volume, or a snapshot of it. An absolute
// path stands for itself.
func (c Catalog) Blockdev(text, snapshot string) (Blockdev, error) {
	if filepath.IsAbs(text) {
		if inner, ok := strings.CutPrefix(formatOfName(text), "ova+"); ok {
			return archiveBlockdev(text, inner)
		}
		return fileBlockdev(text, formatOfName(text))
	}
	at, err := c.Locate(text)
	if err != nil {
		return Blockdev{}, err
	}
	b, err := at.blockdev(snapshot)
	if err != nil {
		return b, fmt.Errorf("volume '%s': %w", at.ID, err)
	}
	return b, nil
}

func (at Place) blockdev(snapshot string) (Blockdev, error) {
	format := at.Volume.Format
	switch at.Volume.Content {
	case Images, Import:
	default:
		format = "raw" // a medium has no format of its own
	}
	if format == "subvol" {
		return Blockdev{}, errors.New("a directory cannot be a disk")
	}
	if p, ok := at.Plugin.(Blockdever); ok {
		node, err := p.Blockdev(at.Config, at.Volume, snapshot)
		if err != nil || node != nil {
			return Blockdev{Format: format, Node: node}, err
		}
	}
	path, err := at.Plugin.Path(at.Config, at.Volume, snapshot)
	if err != nil {
		return Blockdev{}, err
	}
	if inner, ok := strings.CutPrefix(format, "ova+"); ok {
		return archiveBlockdev(path, inner)
	}
	b, err := fileBlockdev(path, format)
	if ch, ok := at.Plugin.(Chainer); ok && err == nil {
		// A volume that is about to be made has no chain yet.
		if b.Chain, err = ch.Chain(at.Config, at.Volume); errors.Is(err, os.ErrNotExist) {
			b.Chain, err = nil, nil
		}
	}
	if b.Format == "qcow2" && snapshot != "" {
		// A path of its own is a snapshot of its own: a volume of a chain.
		if current, e := at.Plugin.Path(at.Config, at.Volume, ""); e == nil && current == path {
			b.Internal = snapshot
		}
	}
	return b, err
}

// fileBlockdev is a file or device of the node, which need not exist yet.
func fileBlockdev(path, format string) (Blockdev, error) {
	driver := "file"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if strings.HasPrefix(path, "/dev/") {
			driver = "host_device"
		}
	case err != nil:
		return Blockdev{}, err
	case info.Mode()&os.ModeDevice != 0:
		driver = "host_device"
	}
	return Blockdev{Format: format, Path: path, Node: map[string]any{"driver": driver, "filename": path}}, nil
}

// archiveBlockdev is an image that is read where it lies in an archive.
func archiveBlockdev(path, format string) (Blockdev, error) {
	archive, member, _ := image.SplitArchive(path)
	p, err := image.Find(archive, member)
	return Blockdev{Format: format, Node: map[string]any{
		"driver": "raw", "offset": p.Offset, "size": p.Size, "file": map[string]any{"driver": "file", "filename": archive},
	}}, err
}

// formatOfName takes the format of an image from its name.
func formatOfName(path string) string {
	if archive, member, ok := image.SplitArchive(path); ok && archive != "" {
		return "ova+" + formatOfName("/"+member)
	}
	if m := imageFile.FindStringSubmatch(filepath.Base(path)); m != nil {
		return m[2]
	}
	return "raw"
}

// Can reports whether a volume, or a snapshot of it, has an ability: see
// Features for their names.
func (c Catalog) Can(ability, text, snapshot string) (bool, error) {
	at, err := c.Locate(text)
	if err != nil {
		return false, err
	}
	return at.can(ability, snapshot), nil
}

func (at Place) can(ability, snapshot string) bool {
	f, ok := at.Plugin.(Featured)
	return ok && f.Features(at.Config).Has(ability, at.Volume, snapshot)
}

// Size returns the size of a volume in bytes, as a guest sees it. The image at
// an absolute path has one too.
func (c Catalog) Size(ctx context.Context, text string) (int64, error) {
	if filepath.IsAbs(text) {
		head, err := image.Read(text, formatOfName(text))
		return head.Size, err
	}
	at, err := c.Locate(text)
	if err != nil {
		return 0, err
	}
	s, ok := at.Plugin.(Sizer)
	if !ok {
		return 0, at.unsupported("sizes of volumes")
	}
	bytes, err := s.Size(ctx, at.Config, at.Volume)
	if err != nil {
		return 0, fmt.Errorf("volume '%s': size: %w", at.ID, err)
	}
	return bytes, nil
}

func (at Place) unsupported(what string) error {
	return fmt.Errorf("volume '%s': %s are %w", at.ID, what, ErrUnsupported)
}
