package btrfs

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// Streams returns the formats for a volume. That of Btrfs carries states only;
// what is no state yet becomes one for the time of the transfer.
func (p Plugin) Streams(c *storage.Config, v storage.Volume, s storage.Stream) []string {
	if !ours(v) {
		return p.Plugin.Streams(c, v, s)
	}
	formats := []string{"btrfs"}
	if s.Snapshots || s.Base != "" {
		return formats
	}
	if v.Format == "raw" {
		return append(formats, "raw+size")
	}
	if s.Snapshot == "" {
		formats = append(formats, "tar+size")
	}
	return formats
}

// travel is the name of a state that is made for a transfer.
const travel = "__migration__"

// Export writes a volume as a stream.
func (p Plugin) Export(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, to io.Writer) error {
	switch {
	case !slices.Contains(p.Streams(c, v, s), s.Format):
		return fmt.Errorf("format %s is not available for '%s'", s.Format, v.Name)
	case !ours(v) || s.Format == "tar+size":
		return p.Plugin.Export(ctx, c, v, s, to)
	case s.Format == "raw+size":
		path, err := p.Path(c, v, s.Snapshot)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return block.Export(ctx, p.Run, path, info.Size(), to)
	}
	path, err := p.subvolume(c, v, "")
	if err != nil {
		return err
	}
	if s.Snapshot == "" {
		if err := p.Snapshot(ctx, c, v, travel); err != nil {
			return err
		}
	}
	argv := []string{"btrfs", "-q", "send"}
	if s.Base != "" {
		argv = append(argv, "-p", path+"@"+s.Base)
	}
	argv = append(argv, path+"@"+cmp.Or(s.Snapshot, travel))
	_, err = p.Run.Run(ctx, host.Command{Argv: argv, Output: to})
	if s.Snapshot == "" {
		err = errors.Join(err, p.DeleteSnapshot(context.WithoutCancel(ctx), c, v, travel))
	}
	return err
}

// Import creates a volume from a stream, or continues one.
func (p Plugin) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	switch {
	case !slices.Contains(p.Streams(c, v, s), s.Format) || v.Base != "":
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	case !ours(v) || s.Format == "tar+size":
		return p.importPlain(ctx, c, v, s, from)
	case s.Format == "raw+size":
		return block.Import(ctx, p.Run, p, c, v, true, from)
	}
	path, err := p.subvolume(c, v, "")
	if err != nil {
		return err
	}
	_, err = os.Lstat(path)
	switch exists := err == nil; {
	case exists && s.Base == "":
		return fmt.Errorf("volume '%s' already exists", v.Name)
	case !exists && s.Base != "":
		return fmt.Errorf("volume '%s' does not exist: its state '%s' is missing", v.Name, s.Base)
	}
	return p.receive(ctx, path, s, from)
}

// importPlain takes a stream that plugins/storage/dir understands. A directory
// becomes a subvolume before it is filled.
func (p Plugin) importPlain(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	if v.Format != "subvol" {
		return p.Plugin.Import(ctx, c, v, s, from)
	}
	var size int64
	if err := binary.Read(from, binary.LittleEndian, &size); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	if _, err := p.Alloc(ctx, c, storage.Request{VMID: v.VMID, Name: v.File, Format: v.Format}); err != nil {
		return err
	}
	path, err := p.subvolume(c, v, "")
	if err == nil {
		err = p.Unpack(ctx, from, path)
	}
	if err != nil {
		err = errors.Join(err, p.Free(context.WithoutCancel(ctx), c, v))
	}
	return err
}

// receive creates the subvolume at path from a stream, and keeps the state that
// came if the stream has a name for it. A state that came cannot be written, so
// it can have another name but not another directory.
func (p Plugin) receive(ctx context.Context, path string, s storage.Stream, from io.Reader) error {
	buffered := bufio.NewReaderSize(from, peeked)
	name, err := incoming(buffered)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	came := filepath.Join(dir, name)
	if _, err := os.Lstat(came); err == nil {
		return fmt.Errorf("'%s' already exists", came)
	}
	_, err = p.Run.Run(ctx, host.Command{Argv: []string{"btrfs", "-q", "receive", "-e", dir}, Input: buffered})
	kept := false
	if err == nil {
		kept, err = p.settle(ctx, came, path, s)
	}
	if _, e := os.Lstat(came); e == nil && !kept {
		err = errors.Join(err, p.btrfs(context.WithoutCancel(ctx), "subvolume", "delete", came))
	}
	return err
}

// peeked is how much of a stream is read for its name, in bytes.
const peeked = 4096

// incoming returns the name that a stream gives its subvolume. It begins, all
// little-endian, with
//
//	"btrfs-stream\0", u32 version
//	u32 length, u16 command, u32 checksum
//	u16 attribute, u16 length, its bytes
//
// where the first command creates the subvolume and its first attribute is the
// name.
func incoming(r *bufio.Reader) (string, error) {
	const magic = "btrfs-stream\x00"
	const head = len(magic) + 4 + 10 + 4
	text, err := r.Peek(head)
	if err != nil || !bytes.HasPrefix(text, []byte(magic)) {
		return "", errors.New("no stream of Btrfs")
	}
	command := binary.LittleEndian.Uint16(text[len(magic)+8:])
	attribute, length := binary.LittleEndian.Uint16(text[head-4:]), binary.LittleEndian.Uint16(text[head-2:])
	const subvolume, snapshot, path = 1, 2, 15
	if command != subvolume && command != snapshot || attribute != path || head+int(length) > peeked {
		return "", errors.New("a stream of Btrfs that begins without a subvolume")
	}
	if text, err = r.Peek(head + int(length)); err != nil {
		return "", err
	}
	name := string(text[head:])
	if name != filepath.Base(name) || name == "." || name == ".." {
		return "", fmt.Errorf("a stream for the subvolume '%s'", name)
	}
	return name, nil
}

// settle makes a state that came the present one of the volume at path, and
// reports whether it stays itself.
func (p Plugin) settle(ctx context.Context, came, path string, s storage.Stream) (kept bool, err error) {
	if s.Snapshot != "" {
		// To Btrfs, a subvolume cannot take its own name.
		if to := path + "@" + s.Snapshot; came != to {
			if err := os.Rename(came, to); err != nil {
				return false, err
			}
		}
		came, kept = path+"@"+s.Snapshot, true
	}
	if _, err := os.Lstat(path); err != nil {
		return kept, p.btrfs(ctx, "subvolume", "snapshot", came, path)
	}
	return kept, p.staged(ctx, path, func(stage string) error {
		if err := p.btrfs(ctx, "subvolume", "snapshot", came, stage); err != nil {
			return err
		}
		return exchange(stage, path)
	})
}
