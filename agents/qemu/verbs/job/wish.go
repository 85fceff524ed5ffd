package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/property"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// Sizes of volumes whose content has one, in bytes.
const (
	cloudInitSize = int64(4) << 20
	tpmStateSize  = int64(4) << 20
	efiVars4m     = int64(528) << 10
	efiVars2m     = int64(128) << 10
)

// A Wish is a drive as it was asked for.
type Wish struct {
	config.Volume
	From string // "import-from": a volume or a path
}

// parseWish reads a drive setting that may ask for a new volume.
func parseWish(key, value string) (w Wish, err error) {
	parts, err := property.Split(value)
	if err != nil {
		return w, fmt.Errorf("%s: %w", key, err)
	}
	var rest []string
	for _, p := range parts {
		switch {
		case p.Key == "import-from":
			w.From = p.Value
		case p.Key == "":
			rest = append(rest, p.Value)
		default:
			rest = append(rest, p.Key+"="+p.Value)
		}
	}
	w.Volume, err = config.ParseVolume(layout.QEMU, key, strings.Join(rest, ","))
	return w, err
}

// Wants reports whether a configuration asks for volumes that are yet to be made.
func Wants(s *config.Section) bool { return len(Wishes(s)) > 0 }

// Wishes are the settings that ask for volumes which are yet to be made.
func Wishes(s *config.Section) map[string]string {
	wishes := map[string]string{}
	for _, key := range s.Keys() {
		if !config.IsVolume(layout.QEMU, key) {
			continue
		}
		if w, err := parseWish(key, s.Get(key)); err == nil && (w.From != "" || w.isNew() || w.asksCloudInit()) {
			wishes[key] = s.Get(key)
		}
	}
	return wishes
}

func (w Wish) isNew() bool {
	_, _, ok := config.NewVolume(w.Volume.Volume)
	return ok
}

func (w Wish) asksCloudInit() bool { return strings.HasSuffix(w.Volume.Volume, ":cloudinit") }

// Fill makes the volumes that a section asks for and puts them into it.
func (j Job) Fill(ctx context.Context, vmid uint32, s *config.Section, keys []string) error {
	keys = slices.Sorted(slices.Values(keys))
	for _, key := range keys {
		if !config.IsVolume(layout.QEMU, key) || !s.Has(key) {
			continue
		}
		w, err := parseWish(key, s.Get(key))
		if err != nil {
			return err
		}
		if err := j.fillOne(ctx, vmid, &w); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		s.Set(key, w.String())
	}
	return nil
}

func (j Job) fillOne(ctx context.Context, vmid uint32, w *Wish) error {
	id := w.Volume.Volume
	storageID, size, isNew := config.NewVolume(id)
	switch {
	case w.From != "" && !isNew:
		return errors.New("'import-from' requires special syntax - use <storage ID>:0,import-from=<source>")
	case w.From != "":
		return j.FillFrom(ctx, vmid, w, storageID)
	case isNew:
		gib, err := strconv.ParseFloat(size, 64)
		if err != nil {
			return err
		}
		return j.allocate(ctx, vmid, w, storageID, int64(gib*(1<<20))<<10) // in whole KiB
	case w.asksCloudInit():
		storageID, _, _ := strings.Cut(id, ":")
		return j.AllocateCloudInit(ctx, vmid, w, storageID)
	}
	return j.Existing(ctx, w)
}

// Existing notes the size of a volume that is there already.
func (j Job) Existing(ctx context.Context, w *Wish) error {
	if _, _, ok := w.Storage(); !ok || w.IsCDROM() || w.Bus == "unused" {
		return nil
	}
	bytes, err := j.Catalog.Size(ctx, w.Volume.Volume)
	if errors.Is(err, storage.ErrUnsupported) {
		return nil
	}
	if err == nil {
		w.Options["size"] = schema.FormatSize(bytes)
	}
	return err
}

// allocate makes an empty volume.
func (j Job) allocate(ctx context.Context, vmid uint32, w *Wish, storageID string, bytes int64) error {
	format := w.Options["format"]
	switch w.Bus {
	case "efidisk":
		bytes = efiVars2m
		if w.Options["efitype"] == "4m" {
			bytes = efiVars4m
		}
	case "tpmstate":
		bytes, format = tpmStateSize, "raw"
	}
	made, err := j.Alloc(ctx, storageID, storage.Request{VMID: vmid, Format: format, Bytes: bytes})
	if err != nil {
		return err
	}
	w.Put(made, bytes)
	j.Log.Printf("%s: successfully created disk '%s'", w.Key, w.String())
	return nil
}

// Put puts a volume that was made into a drive.
func (w *Wish) Put(made string, bytes int64) {
	w.Volume.Volume = made
	delete(w.Options, "format")
	w.Options["size"] = schema.FormatSize(bytes)
}

// FillFrom makes a copy of a volume or an image.
func (j Job) FillFrom(ctx context.Context, vmid uint32, w *Wish, storageID string) error {
	source, err := j.Catalog.Blockdev(w.From, "")
	if err != nil {
		return err
	}
	bytes, err := j.Catalog.Size(ctx, w.From)
	if err != nil {
		return err
	}
	j.Log.Printf("%s: importing '%s'", w.Key, w.From)
	made, err := j.copy(ctx, source, storageID, storage.Request{VMID: vmid, Format: w.Options["format"], Bytes: bytes})
	if err != nil {
		return err
	}
	w.Put(made, bytes)
	return nil
}

// copy makes a volume with the content of another one.
func (j Job) copy(ctx context.Context, source storage.Blockdev, storageID string, r storage.Request) (string, error) {
	made, err := j.Alloc(ctx, storageID, r)
	if err != nil {
		return "", err
	}
	limit := j.Limit(ctx, "clone", storageID)
	return made, j.Catalog.Convert(ctx, source, made, limit)
}

// AllocateCloudInit makes the volume for what cloud-init reads.
func (j Job) AllocateCloudInit(ctx context.Context, vmid uint32, w *Wish, storageID string) error {
	_, plugin, err := j.Catalog.Find(storageID)
	if err != nil {
		return err
	}
	r := storage.Request{VMID: vmid, Format: "raw", Name: fmt.Sprintf("vm-%d-cloudinit", vmid), Bytes: cloudInitSize}
	if _, err := plugin.Parse(fmt.Sprintf("%d/%s.qcow2", vmid, r.Name)); err == nil {
		r.Format, r.Name = "qcow2", r.Name+".qcow2"
	}
	made, err := j.Alloc(ctx, storageID, r)
	if err != nil {
		return err
	}
	w.Volume.Volume = made
	w.Options["media"] = "cdrom"
	delete(w.Options, "format")
	delete(w.Options, "size")
	return nil
}

// FormatFor is the format that was asked for, or the source's if the target
// keeps files as well.
func (j Job) FormatFor(vmid uint32, storageID string, v *config.Volume) string {
	if format := j.Text("format"); format != "" && !slices.Contains([]string{"efidisk", "tpmstate"}, v.Bus) {
		return format
	}
	at, err := j.Catalog.Locate(v.Volume)
	if err != nil {
		return ""
	}
	_, plugin, err := j.Catalog.Find(storageID)
	if err != nil {
		return "" // the allocation says so
	}
	if _, err := plugin.Parse(fmt.Sprintf("%d/vm-%d-disk-0.%s", vmid, vmid, at.Volume.Format)); err != nil {
		return "" // no files there: the storage's only format
	}
	return at.Volume.Format
}
