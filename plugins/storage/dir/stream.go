package dir

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/storage"
)

// Export writes a volume as a stream: its size as 64 bits little-endian, then
// its content.
func (p Plugin) Export(ctx context.Context, c *storage.Config, v storage.Volume, format, snapshot string, to io.Writer) error {
	if snapshot != "" {
		return fmt.Errorf("volume export of snapshots is %w", storage.ErrUnsupported)
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	size, err := p.Size(ctx, c, v)
	if err != nil {
		return err
	}
	kind := strings.TrimSuffix(format, "+size")
	var prepare []string
	switch {
	case kind == v.Format && kind != "subvol":
		return send(to, size, path)
	case kind == "raw" && v.Format != "subvol":
		prepare = []string{"qemu-img", "convert", "-f", v.Format, "-O", "raw", path}
	case kind == "tar" && v.Format == "subvol":
		prepare = []string{"tar", "--one-file-system", "--numeric-owner", "--acls", "--xattrs", "-C", path, "-cf"}
	default:
		return fmt.Errorf("volume export format %s is not available for '%s'", format, v.Name)
	}
	return staged(path, func(stage string) error {
		if kind == "tar" {
			prepare = append(prepare, stage, ".")
		} else {
			prepare = append(prepare, stage)
		}
		if err := p.run(ctx, prepare...); err != nil {
			return err
		}
		return send(to, size, stage)
	})
}

// staged calls f with the name of a file beside path that is removed afterwards.
// Its name begins with a dot: it is no volume.
func staged(path string, f func(stage string) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".stream-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return f(filepath.Join(dir, "content"))
}

func send(to io.Writer, size int64, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := binary.Write(to, binary.LittleEndian, size); err != nil {
		return err
	}
	_, err = io.Copy(to, f)
	return err
}

// Import creates a volume from a stream that Export could have written.
func (p Plugin) Import(ctx context.Context, c *storage.Config, v storage.Volume, format string, from io.Reader) (err error) {
	kind := strings.TrimSuffix(format, "+size")
	fits := kind == v.Format || kind == "raw" && v.Format != "subvol" || kind == "tar" && v.Format == "subvol"
	if !fits || v.Content != storage.Images || v.Base != "" {
		return fmt.Errorf("cannot import format %s into volume '%s'", format, v.Name)
	}
	var size int64
	if err := binary.Read(from, binary.LittleEndian, &size); err != nil {
		return fmt.Errorf("import: size: %w", err)
	}
	_, path, err := p.Place(c, storage.Request{VMID: v.VMID, Name: v.File, Format: v.Format})
	if err != nil {
		return err
	}
	return staged(path, func(stage string) error {
		if err := receive(stage, from); err != nil {
			return err
		}
		switch {
		case kind == "tar":
			return p.unpack(ctx, stage, path)
		case kind != v.Format:
			return p.run(ctx, "qemu-img", "convert", "-f", kind, "-O", v.Format, stage, path)
		}
		return os.Rename(stage, path)
	})
}

func (p Plugin) unpack(ctx context.Context, archive, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	err := p.run(ctx, "tar", "--numeric-owner", "--acls", "--xattrs", "-C", path, "-xpf", archive)
	if err != nil {
		_ = os.RemoveAll(path) // half a volume is none; the error says why
	}
	return err
}

func receive(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}
