// Package block is what the types of storage have in common whose volumes are
// block devices: lists, free names, and streams of raw content.
//
// It owns the form of those streams, the size as 64 bits little-endian and then
// the content, which is that of plugins/storage/dir. It never creates or removes
// a volume by itself: the type it works for does.
package block

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
)

// Infos lists the volumes a query asks for, sorted by name.
func Infos(q storage.Query, all []storage.Info) (wanted []storage.Info) {
	if q.Content != storage.Images && q.Content != storage.Rootdir {
		return nil
	}
	for _, i := range all {
		if q.Wants(i.VMID) {
			i.Content = q.Content
			wanted = append(wanted, i)
		}
	}
	slices.SortFunc(wanted, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
	return wanted
}

// Name returns the name of a new volume: the one asked for if it is vacant and
// belongs to the guest, else the next free one of those that begin with prefix.
func Name(p storage.Plugin, r storage.Request, prefix string, taken []string) (string, error) {
	if r.Name == "" {
		return storage.FreeName(prefix, r.VMID, "", taken)
	}
	v, err := p.Parse(r.Name)
	switch {
	case err != nil:
		return "", err
	case v.VMID != r.VMID || v.IsBase || v.Base != "":
		return "", fmt.Errorf("illegal name '%s' - should be '%s-%d-*'", r.Name, prefix, r.VMID)
	case slices.Contains(taken, r.Name):
		return "", fmt.Errorf("volume '%s' already exists", r.Name)
	}
	return r.Name, nil
}

// KiB rounds a size up to whole KiB.
func KiB(bytes int64) int64 { return (bytes + 1023) / 1024 }

// Streams returns the formats in which a volume travels.
func Streams(v storage.Volume, s storage.Stream) []string {
	if v.Content != storage.Images || v.Format != "raw" || s.Base != "" || s.Snapshots {
		return nil
	}
	return []string{"raw+size"}
}

// chunk is how much is copied at a time.
const chunk = "bs=64k"

// Export writes the content of a device as a stream.
func Export(ctx context.Context, run storage.Runner, path string, bytes int64, to io.Writer) error {
	if err := binary.Write(to, binary.LittleEndian, bytes); err != nil {
		return err
	}
	_, err := run.Run(ctx, host.Command{Argv: []string{"dd", "if=" + path, chunk, "status=none"}, Output: to})
	return err
}

// Import creates a volume from a stream. Sparse says that new volumes are all
// zeros, so that zeros need not be written.
func Import(ctx context.Context, run storage.Runner, p storage.Plugin, c *storage.Config, v storage.Volume, sparse bool, from io.Reader) error {
	if v.Base != "" || v.IsBase {
		return fmt.Errorf("cannot import into '%s'", v.Name)
	}
	var bytes int64
	if err := binary.Read(from, binary.LittleEndian, &bytes); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	name, err := p.Alloc(ctx, c, storage.Request{VMID: v.VMID, Name: v.File, Format: v.Format, Bytes: bytes})
	if err != nil {
		return err
	}
	counted := &counter{from: io.LimitReader(from, bytes)}
	err = fill(ctx, run, p, c, v, sparse, counted)
	if err == nil && counted.bytes != bytes {
		err = fmt.Errorf("the stream ends after %d of %d bytes", counted.bytes, bytes)
	}
	if err != nil {
		// Also after ctx has ended: half a volume is none.
		err = errors.Join(err, p.Free(context.WithoutCancel(ctx), c, v))
	}
	if err == nil && name != v.Name {
		err = fmt.Errorf("created as '%s'", name)
	}
	return err
}

type counter struct {
	from  io.Reader
	bytes int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes += int64(n)
	return n, err
}

func fill(ctx context.Context, run storage.Runner, p storage.Plugin, c *storage.Config, v storage.Volume, sparse bool, from io.Reader) error {
	if a, ok := p.(storage.VolumeActivator); ok {
		if err := a.ActivateVolume(ctx, c, v, ""); err != nil {
			return err
		}
	}
	path, err := p.Path(c, v, "")
	if err != nil {
		return err
	}
	conv := "conv=fsync,nocreat"
	if sparse {
		conv += ",sparse"
	}
	_, err = run.Run(ctx, host.Command{Argv: []string{"dd", "of=" + path, chunk, "iflag=fullblock", conv, "status=none"}, Input: from})
	return err
}
