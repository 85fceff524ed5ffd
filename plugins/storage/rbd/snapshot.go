package rbd

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
	"etcpve/plugins/storage/block"
)

// baseSnapshot is the state of a base that clones stand on.
const baseSnapshot = "__base__"

// A state is a snapshot of an image.
type state struct {
	Name      string
	Size      int64
	Protected any // "true" or true, by the version of rbd
}

func (s state) protected() bool { return s.Protected == true || s.Protected == "true" }

func (p Plugin) states(ctx context.Context, c *storage.Config, v storage.Volume) ([]state, error) {
	return ask[[]state](ctx, p, c, "rbd", "snap", "ls", image(c, v.File, ""))
}

// Snapshot keeps the state of an image.
func (p Plugin) Snapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.rbd(ctx, c, "snap", "create", image(c, v.File, name))
}

// DeleteSnapshot removes a state, but never the one that makes a base.
func (p Plugin) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	if v.IsBase && name == baseSnapshot {
		return fmt.Errorf("'%s' is a base because of the snapshot '%s'", v.File, name)
	}
	all, err := p.states(ctx, c, v)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(s state) bool { return s.Name == name && s.protected() }) {
		if err := p.rbd(ctx, c, "snap", "unprotect", image(c, v.File, name)); err != nil {
			return err
		}
	}
	return p.rbd(ctx, c, "snap", "rm", image(c, v.File, name))
}

// Rollback returns an image to a state.
func (p Plugin) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	return p.rbd(ctx, c, "snap", "rollback", image(c, v.File, name))
}

// CreateBase renames an image and keeps its state.
func (p Plugin) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	file, plain := strings.CutPrefix(v.File, "vm-")
	if !plain || v.Base != "" {
		return "", fmt.Errorf("create_base not possible with '%s'", v.Name)
	}
	base := "base-" + file
	if err := p.rbd(ctx, c, "rename", image(c, v.File, ""), image(c, base, "")); err != nil {
		return "", err
	}
	err := p.rbd(ctx, c, "snap", "create", image(c, base, baseSnapshot))
	if err == nil {
		err = p.rbd(ctx, c, "snap", "protect", image(c, base, baseSnapshot))
	}
	if err != nil {
		return "", errors.Join(err, p.rbd(context.WithoutCancel(ctx), c, "rename", image(c, base, ""), image(c, v.File, "")))
	}
	return base, nil
}

// Clone creates an image on top of a base or of a snapshot.
func (p Plugin) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	if snapshot == "" {
		if !v.IsBase {
			return "", errBase
		}
		snapshot = baseSnapshot
	}
	name, err := p.vacant(ctx, c, storage.Request{VMID: vmid})
	if err != nil {
		return "", err
	}
	all, err := p.states(ctx, c, v)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(s state) bool { return s.Name == snapshot })
	if i < 0 {
		return "", fmt.Errorf("no such snapshot '%s' of '%s'", snapshot, v.Name)
	}
	if !all[i].protected() {
		if err := p.rbd(ctx, c, "snap", "protect", image(c, v.File, snapshot)); err != nil {
			return "", err
		}
	}
	err = p.rbd(ctx, c, slices.Concat([]string{"clone"}, dataPool(c), []string{image(c, v.File, snapshot), image(c, name, "")})...)
	if snapshot == baseSnapshot {
		return v.File + "/" + name, err
	}
	return name, err
}

// Streams returns the formats for an image.
func (Plugin) Streams(_ *storage.Config, v storage.Volume, s storage.Stream) []string {
	return block.Streams(v, s)
}

// Export writes an image, or a snapshot, as a stream.
func (p Plugin) Export(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, to io.Writer) error {
	if !slices.Contains(p.Streams(c, v, s), s.Format) {
		return fmt.Errorf("format %s is not available for '%s'", s.Format, v.Name)
	}
	said, err := ask[listed](ctx, p, c, "rbd", "info", image(c, v.File, s.Snapshot))
	if err != nil {
		return err
	}
	if err := binary.Write(to, binary.LittleEndian, said.Size); err != nil {
		return err
	}
	_, err = p.run.Run(ctx, host.Command{Argv: p.argv(c, "rbd", "export", "--no-progress", image(c, v.File, s.Snapshot), "-"), Output: to})
	return err
}

// Import creates an image from a stream.
func (p Plugin) Import(ctx context.Context, c *storage.Config, v storage.Volume, s storage.Stream, from io.Reader) error {
	if !slices.Contains(p.Streams(c, v, storage.Stream{}), s.Format) || v.Base != "" || v.IsBase {
		return fmt.Errorf("cannot import format %s into volume '%s'", s.Format, v.Name)
	}
	var bytes int64
	if err := binary.Read(from, binary.LittleEndian, &bytes); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	if _, err := p.vacant(ctx, c, storage.Request{VMID: v.VMID, Name: v.File}); err != nil {
		return err
	}
	argv := p.argv(c, "rbd", slices.Concat([]string{"import", "--no-progress", "--image-format", "2"}, dataPool(c), []string{"-", image(c, v.File, "")})...)
	_, err := p.run.Run(ctx, host.Command{Argv: argv, Input: io.LimitReader(from, bytes)})
	if err == nil {
		// Of a stream that was cut short, rbd makes a smaller image.
		var size int64
		if size, err = p.Size(ctx, c, v); err == nil && size < bytes {
			err = errors.Join(fmt.Errorf("the stream ends after %d of %d bytes", size, bytes), p.Free(context.WithoutCancel(ctx), c, v))
		}
	}
	return err
}
