package verbs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
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

// madeKey is where a task notes the volumes it made, as its repair has to know.
// makingKey is where it notes, before it makes one, the storage, the VMID and the
// volumes that are there already; nothing while it makes none.
const (
	madeKey   = "made"
	makingKey = "making"
	nothing   = "-"
)

// A wish is a drive as it was asked for.
type wish struct {
	config.Volume
	from string // "import-from": a volume or a path
}

// parseWish reads a drive setting that may ask for a new volume.
func parseWish(key, value string) (w wish, err error) {
	parts, err := property.Split(value)
	if err != nil {
		return w, fmt.Errorf("%s: %w", key, err)
	}
	var rest []string
	for _, p := range parts {
		switch {
		case p.Key == "import-from":
			w.from = p.Value
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
		if w, err := parseWish(key, s.Get(key)); err == nil && (w.from != "" || w.isNew() || w.asksCloudInit()) {
			wishes[key] = s.Get(key)
		}
	}
	return wishes
}

func (w wish) isNew() bool {
	_, _, ok := config.NewVolume(w.Volume.Volume)
	return ok
}

func (w wish) asksCloudInit() bool { return strings.HasSuffix(w.Volume.Volume, ":cloudinit") }

// fill makes the volumes that a section asks for and puts them into it.
func (j job) fill(ctx context.Context, vmid uint32, s *config.Section, keys []string) error {
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

func (j job) fillOne(ctx context.Context, vmid uint32, w *wish) error {
	id := w.Volume.Volume
	storageID, size, isNew := config.NewVolume(id)
	switch {
	case w.from != "" && !isNew:
		return errors.New("'import-from' requires special syntax - use <storage ID>:0,import-from=<source>")
	case w.from != "":
		return j.fillFrom(ctx, vmid, w, storageID)
	case isNew:
		gib, err := strconv.ParseFloat(size, 64)
		if err != nil {
			return err
		}
		return j.allocate(ctx, vmid, w, storageID, int64(gib*(1<<20))<<10) // in whole KiB
	case w.asksCloudInit():
		storageID, _, _ := strings.Cut(id, ":")
		return j.allocateCloudInit(ctx, vmid, w, storageID)
	}
	return j.existing(ctx, w)
}

// existing notes the size of a volume that is there already.
func (j job) existing(ctx context.Context, w *wish) error {
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
func (j job) allocate(ctx context.Context, vmid uint32, w *wish, storageID string, bytes int64) error {
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
	made, err := j.alloc(ctx, storageID, storage.Request{VMID: vmid, Format: format, Bytes: bytes})
	if err != nil {
		return err
	}
	w.place(made, bytes)
	j.log.Printf("%s: successfully created disk '%s'", w.Key, w.String())
	return nil
}

// place puts a volume that was made into a drive.
func (w *wish) place(made string, bytes int64) {
	w.Volume.Volume = made
	delete(w.Options, "format")
	w.Options["size"] = schema.FormatSize(bytes)
}

// alloc makes a volume and notes it in the file of the task.
func (j job) alloc(ctx context.Context, storageID string, r storage.Request) (string, error) {
	before, err := j.ownedOn(ctx, storageID, r.VMID)
	if err == nil {
		err = j.keep(makingKey, fmt.Sprintf("%s %d %s", storageID, r.VMID, strings.Join(before, " ")))
	}
	if err != nil {
		return "", err
	}
	made, err := j.Catalog.Alloc(ctx, storageID, r)
	if err != nil {
		return "", err
	}
	return made.String(), errors.Join(j.note(made.String()), j.keep(makingKey, nothing))
}

// ownedOn lists the volumes of a VM on one storage.
func (j job) ownedOn(ctx context.Context, storageID string, vmid uint32) (names []string, err error) {
	all, err := j.Catalog.List(ctx, storageID, storage.Images, vmid)
	for _, i := range all {
		names = append(names, storageID+":"+i.Name)
	}
	return names, err
}

// keep sets a parameter here and in the file of the task.
func (j job) keep(key, value string) error {
	j.params[key] = value
	return j.log.Keep(key, value)
}

// reclaim notes the volume that was being made when the task was killed: the
// only one that was not there before.
func (j job) reclaim(ctx context.Context) error {
	was := strings.Fields(j.params[makingKey])
	if len(was) < 2 {
		return nil
	}
	vmid, ok := layout.ParseVMID(was[1])
	if !ok {
		return nil
	}
	now, err := j.ownedOn(ctx, was[0], vmid)
	if err != nil {
		return err
	}
	now = slices.DeleteFunc(now, func(volume string) bool { return slices.Contains(was[2:], volume) })
	if len(now) == 1 {
		err = j.note(now[0])
	}
	return errors.Join(err, j.keep(makingKey, nothing))
}

// note records a volume as this task's.
func (j job) note(volume string) error {
	all := strings.Fields(j.params[madeKey])
	if !slices.Contains(all, volume) {
		all = append(all, volume)
	}
	return j.keep(madeKey, strings.Join(all, " "))
}

// discard removes the volumes this task made which no configuration names.
func (j job) discard(ctx context.Context) (failures error) {
	if err := j.reclaim(ctx); err != nil {
		return err
	}
	for _, volume := range strings.Fields(j.params[madeKey]) {
		named, err := j.named(volume)
		if err != nil || named {
			failures = errors.Join(failures, err)
			continue
		}
		if _, err := j.Catalog.Size(ctx, volume); err != nil {
			continue // it is gone already
		}
		j.log.Printf("removing volume '%s'", volume)
		failures = errors.Join(failures, j.Catalog.Free(ctx, volume))
	}
	return failures
}

// named reports whether the configuration of a guest of the cluster names a volume.
func (j job) named(volume string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(j.Tree, "nodes/*/*/*.conf"))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		found, err := mentions(file, volume)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// fillFrom makes a copy of a volume or an image.
func (j job) fillFrom(ctx context.Context, vmid uint32, w *wish, storageID string) error {
	source, err := j.Catalog.Blockdev(w.from, "")
	if err != nil {
		return err
	}
	bytes, err := j.Catalog.Size(ctx, w.from)
	if err != nil {
		return err
	}
	j.log.Printf("%s: importing '%s'", w.Key, w.from)
	made, err := j.copy(ctx, source, storageID, storage.Request{VMID: vmid, Format: w.Options["format"], Bytes: bytes})
	if err != nil {
		return err
	}
	w.place(made, bytes)
	return nil
}

// copy makes a volume with the content of another one.
func (j job) copy(ctx context.Context, source storage.Blockdev, storageID string, r storage.Request) (string, error) {
	made, err := j.alloc(ctx, storageID, r)
	if err != nil {
		return "", err
	}
	limit, _ := strconv.ParseInt(j.text("bwlimit"), 10, 64) // 0, which is none, if it is not given
	return made, j.Catalog.Convert(ctx, source, made, limit)
}

// allocateCloudInit makes the volume for what cloud-init reads.
func (j job) allocateCloudInit(ctx context.Context, vmid uint32, w *wish, storageID string) error {
	_, plugin, err := j.Catalog.Find(storageID)
	if err != nil {
		return err
	}
	r := storage.Request{VMID: vmid, Format: "raw", Name: fmt.Sprintf("vm-%d-cloudinit", vmid), Bytes: cloudInitSize}
	if _, err := plugin.Parse(fmt.Sprintf("%d/%s.qcow2", vmid, r.Name)); err == nil {
		r.Format, r.Name = "qcow2", r.Name+".qcow2"
	}
	made, err := j.alloc(ctx, storageID, r)
	if err != nil {
		return err
	}
	w.Volume.Volume = made
	w.Options["media"] = "cdrom"
	delete(w.Options, "format")
	delete(w.Options, "size")
	return nil
}
