package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// StreamFormats are the forms a volume can be exported in.
var StreamFormats = []string{"raw+size", "tar+size", "qcow2+size", "vmdk+size", "zfs", "btrfs"}

// A Stream says in which form a volume travels, and which of its states.
type Stream struct {
	Format    string // one of StreamFormats
	Snapshot  string // the state to write; "" for the present one
	Base      string // only what has changed since this snapshot
	Snapshots bool   // with all snapshots up to there
}

// Export writes a volume as a stream.
func (c Catalog) Export(ctx context.Context, text string, s Stream, to io.Writer) error {
	at, p, err := c.exporter(ctx, text, s)
	if err != nil {
		return err
	}
	if err := p.Export(ctx, at.Config, at.Volume, s, to); err != nil {
		return fmt.Errorf("volume '%s': export: %w", at.ID, err)
	}
	return nil
}

// Import creates a volume from a stream and returns its ID. If its name is taken
// and rename is set, it gets another one; an incremental stream continues the
// volume that is there.
func (c Catalog) Import(ctx context.Context, text string, s Stream, rename bool, from io.Reader) (ID, error) {
	at, p, err := c.exporter(ctx, text, s)
	if err != nil {
		return ID{}, err
	}
	if s.Base == "" {
		if at, err = c.vacant(ctx, at, rename); err != nil {
			return ID{}, err
		}
	}
	if err := p.Import(ctx, at.Config, at.Volume, s, from); err != nil {
		return ID{}, fmt.Errorf("volume '%s': import: %w", at.ID, err)
	}
	return at.ID, nil
}

// Streams returns the forms in which a volume can be written, and read, given
// what else is asked of the stream.
func (c Catalog) Streams(text string, s Stream) ([]string, error) {
	at, err := c.Locate(text)
	if err != nil {
		return nil, err
	}
	p, ok := at.Plugin.(Exporter)
	if !ok {
		return nil, at.unsupported("streams")
	}
	return p.Streams(at.Config, at.Volume, s), nil
}

func (c Catalog) exporter(ctx context.Context, text string, s Stream) (at Place, p Exporter, err error) {
	if at, err = c.Locate(text); err != nil {
		return at, nil, err
	}
	p, ok := at.Plugin.(Exporter)
	if !ok {
		return at, nil, at.unsupported("streams")
	}
	if can := p.Streams(at.Config, at.Volume, s); !slices.Contains(can, s.Format) {
		return at, nil, fmt.Errorf("volume '%s': streams of format %s are %w", at.ID, s.Format, ErrUnsupported)
	}
	return at, p, at.Plugin.Activate(ctx, at.Config)
}

// vacant refuses a volume that exists, or chooses the next free name for it.
func (c Catalog) vacant(ctx context.Context, at Place, rename bool) (Place, error) {
	if at.Volume.Content != Images || at.Volume.VMID == 0 {
		return at, errors.New("only images travel as streams")
	}
	all, err := at.Plugin.List(ctx, at.Config, Query{Content: Images, VMID: at.Volume.VMID})
	if err != nil {
		return at, err
	}
	var files []string
	for _, i := range all {
		files = append(files, i.Name[strings.LastIndexByte(i.Name, '/')+1:])
	}
	if !slices.Contains(files, at.Volume.File) {
		return at, nil
	}
	if !rename {
		return at, fmt.Errorf("volume '%s' already exists", at.ID)
	}
	dir := at.Volume.Name[:strings.LastIndexByte(at.Volume.Name, '/')+1]
	prefix, _, _ := strings.Cut(at.Volume.File, "-")
	extension := ""
	if i := strings.LastIndexByte(at.Volume.File, '.'); i >= 0 {
		extension = at.Volume.File[i:]
	}
	file, err := FreeName(prefix, at.Volume.VMID, extension, files)
	if err != nil {
		return at, err
	}
	return c.Locate(ID{at.ID.Storage, dir + file}.String())
}
