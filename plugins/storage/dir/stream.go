package dir

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
)

// Streams returns the formats for a volume.
func (Plugin) Streams(c *storage.Config, v storage.Volume, s storage.Stream) []string {
	switch {
	case v.Content != storage.Images || s.Snapshot != "" || s.Base != "":
		return nil
	case v.Format == "subvol":
		if s.Snapshots {
			return nil
		}
		return []string{"tar+size"}
	case s.Snapshots && v.Format == "qcow2" && !chained(c, v):
		return []string{"qcow2+size"}
	case s.Snapshots:
		return nil
	case v.Format == "raw":
		return []string{"raw+size"}
	}
	return []string{v.Format + "+size", "raw+size"}
}

// Export writes a volume as a stream: its size as 64 bits little-endian, then
// its content.
func (p Plugin) Export(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, to io.Writer) error {
	if !slices.Contains(p.Streams(c, v, s), s.Format) {
		return fmt.Errorf("format %s is not available for '%s'", s.Format, v.Name)
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	size, err := p.Size(ctx, c, v)
	if err != nil {
		return err
	}
	var prepare []string
	switch kind := strings.TrimSuffix(s.Format, "+size"); kind {
	case "raw":
		// A flat image, and one that stands on nothing, is its own stream.
		prepare = []string{"qemu-img", "convert", "-f", v.Format, "-O", "raw", path}
		if v.Format == "raw" {
			return send(to, size, path)
		}
	case "tar":
		if err := binary.Write(to, binary.LittleEndian, size); err != nil {
			return err
		}
		argv := []string{"tar", "--one-file-system", "--numeric-owner", "--acls", "--xattrs", "--sparse", "-C", path, "-cf", "-", "."}
		_, err := p.Run.Run(ctx, host.Command{Argv: argv, Output: to})
		return err
	default:
		if v.Base == "" {
			return send(to, size, path)
		}
		// The base does not travel along.
		prepare = []string{"qemu-img", "convert", "-f", v.Format, "-O", v.Format, path}
	}
	return staged(path, func(stage string) error {
		if err := p.run(ctx, append(prepare, stage)...); err != nil {
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
func (p Plugin) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) (err error) {
	kind := strings.TrimSuffix(s.Format, "+size")
	fits := kind == v.Format || kind == "raw" && v.Format != "subvol" || kind == "tar" && v.Format == "subvol"
	if !fits || v.Content != storage.Images || v.Base != "" {
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	}
	var size int64
	if err := binary.Read(from, binary.LittleEndian, &size); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	_, path, err := p.Place(c, storage.Request{VMID: v.VMID, Name: v.File, Format: v.Format})
	if err != nil {
		return err
	}
	if kind == "tar" {
		return p.unpack(ctx, from, path)
	}
	return staged(path, func(stage string) error {
		n, err := receive(stage, from)
		if err == nil && kind == "raw" && n != size {
			err = fmt.Errorf("the stream ends after %d of %d bytes", n, size)
		}
		if err == nil && kind != "raw" {
			err = p.check(ctx, kind, stage)
		}
		if err != nil {
			return err
		}
		if kind != v.Format {
			return p.run(ctx, "qemu-img", "convert", "-f", kind, "-O", v.Format, stage, path)
		}
		return os.Rename(stage, path)
	})
}

func (p Plugin) unpack(ctx context.Context, archive io.Reader, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	err := p.Unpack(ctx, archive, path)
	if err != nil {
		_ = os.RemoveAll(path) // half a volume is none; the error says why
	}
	return err
}

// Unpack fills a directory from an archive.
func (p Plugin) Unpack(ctx context.Context, archive io.Reader, path string) error {
	argv := []string{"tar", "--numeric-owner", "--acls", "--xattrs", "--sparse", "-C", path, "-xpf", "-"}
	_, err := p.Run.Run(ctx, host.Command{Argv: argv, Input: archive})
	return err
}

// leaked is what "qemu-img check" ends with if nothing is wrong but some space
// that nothing refers to.
const leaked = 3

// check refuses an image that is not whole. What is missing at its end, QEMU
// would read as zeros.
func (p Plugin) check(ctx context.Context, format, path string) error {
	err := p.run(ctx, "qemu-img", "check", "-q", "-f", format, path)
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Code == leaked {
		return nil
	}
	return err
}

// receive writes a stream to a new file and returns how many bytes it had.
func receive(path string, from io.Reader) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, from)
	if err != nil {
		_ = f.Close() // the first error counts
		return n, err
	}
	return n, f.Close()
}
