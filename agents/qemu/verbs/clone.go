package verbs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/place"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A cloning is one clone while it is made.
type cloning struct {
	job
	newID  uint32
	source *config.Section // of the VM, or of its snapshot
	full   bool
	runs   bool // the source runs, and not a snapshot of it is meant
}

// clone makes a new VM from a VM, a template or a snapshot.
func (j job) clone(ctx context.Context) error {
	c, err := j.load(ctx)
	if err != nil {
		return err
	}
	k, err := j.cloning(ctx, c)
	if err != nil {
		return err
	}
	if err := j.locked(k.newID, guest.LockClone); err != nil { // nothing was made yet
		return err
	}
	made, err := k.volumes(ctx)
	if err == nil {
		err = j.Edit(ctx, k.newID, func(now *config.Config) error {
			now.Main = made
			return checkText(now)
		})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("clone failed: %w", err), j.undoNew(context.WithoutCancel(ctx), k.newID, guest.LockClone))
	}
	return nil
}

// cloning makes all checks.
func (j job) cloning(ctx context.Context, c *config.Config) (k *cloning, err error) {
	k = &cloning{job: j, source: c.Main}
	if k.newID, err = place.VMID(j.text("newid")); err != nil {
		return nil, fmt.Errorf("newid: %q is not a VMID", j.text("newid"))
	}
	name := j.text("snapname")
	if name != "" {
		if k.source = c.Snapshots[name]; k.source == nil {
			return nil, fmt.Errorf("snapshot '%s' does not exist", name)
		}
	}
	template := c.Main.Bool(layout.QEMU, "template")
	if k.full = !template; j.text("full") != "" {
		k.full = j.truth("full")
	}
	running, err := j.Running(ctx, j.vmid)
	k.runs = running && name == ""
	switch {
	case err != nil:
		return nil, err
	case !k.full && j.text("storage") != "":
		return nil, errors.New("parameter 'storage' not allowed for linked clones")
	case !k.full && j.text("format") != "":
		return nil, errors.New("parameter 'format' not allowed for linked clones")
	case !k.full:
		return k, k.linkable()
	}
	return k, nil
}

// linkable refuses disks that nothing can stand on.
func (k *cloning) linkable() error {
	for _, v := range k.disks() {
		can, err := k.Catalog.Can("clone", v.Volume, k.text("snapname"))
		if err == nil && !can {
			err = fmt.Errorf("linked clone feature for '%s' is not available", v.Volume)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// disks are the volumes that a clone gets copies of.
func (k *cloning) disks() (all []config.Volume) {
	for _, v := range config.Volumes(layout.QEMU, k.source) {
		if _, _, ok := v.Storage(); ok && !v.IsCDROM() {
			all = append(all, v)
		}
	}
	return all
}

// volumes makes the disks of the clone and returns its settings.
func (k *cloning) volumes(ctx context.Context) (*config.Section, error) {
	made := k.settings()
	var copies []*backup
	for _, v := range k.disks() {
		b, err := k.disk(ctx, &v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Key, err)
		}
		if b != nil {
			copies = append(copies, b)
		}
		made.Set(v.Key, v.String())
	}
	if err := k.backUp(ctx, k.vmid, copies); err != nil {
		return nil, err
	}
	for _, v := range config.Volumes(layout.QEMU, k.source) {
		if !v.IsCloudInit() {
			continue
		}
		id, _, _ := v.Storage()
		w := wish{Volume: v}
		if err := k.allocateCloudInit(ctx, k.newID, &w, cmp.Or(k.text("storage"), id)); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Key, err)
		}
		made.Set(v.Key, w.String())
	}
	return made, nil
}

// settings are those of the clone, with the source's disks.
func (k *cloning) settings() *config.Section {
	made := k.source.Clone()
	for _, key := range made.Series("unused") {
		made.Delete(key)
	}
	made.Delete("lock", "parent", "snaptime", "snapstate", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu",
		"template", "description", "meta", "digest")
	if made.Has("vmgenid") {
		made.Set("vmgenid", newUUID())
	}
	if values, err := made.Values(layout.QEMU, "smbios1"); err == nil {
		if values == nil {
			values = schema.Values{}
		}
		values["uuid"] = newUUID()
		made.Set("smbios1", config.Keys(layout.QEMU)["smbios1"].Format.Keys.Print(values))
	}
	newMACs(made, true)
	c := config.Config{Kind: layout.QEMU, Main: made}
	complete(&c)
	name := "VM-" + strconv.FormatUint(uint64(k.vmid), 10)
	if k.source.Has("name") {
		name = k.source.Get("name")
	}
	made.Set("name", cmp.Or(k.text("name"), "Copy-of-"+name))
	if text := k.text("description"); text != "" {
		made.Set("description", text)
	}
	return made
}

// disk makes one disk. What a running QEMU has to copy is returned.
func (k *cloning) disk(ctx context.Context, v *config.Volume) (*backup, error) {
	if !k.full {
		k.log.Printf("create linked clone of drive %s (%s)", v.Key, v.Volume)
		made, err := k.Catalog.Clone(ctx, v.Volume, k.newID, k.text("snapname"))
		if err != nil {
			return nil, err
		}
		v.Volume = made.String()
		return nil, k.note(v.Volume)
	}
	k.log.Printf("create full clone of drive %s (%s)", v.Key, v.Volume)
	from := v.Volume
	source, err := k.Catalog.Blockdev(from, k.text("snapname"))
	if err != nil {
		return nil, err
	}
	bytes, err := k.Catalog.Size(ctx, from)
	if err != nil {
		return nil, err
	}
	id, _, _ := v.Storage()
	r := storage.Request{VMID: k.newID, Format: k.formatFor(id, v), Bytes: bytes}
	target := cmp.Or(k.text("storage"), id)
	made, err := k.alloc(ctx, target, r)
	if err != nil {
		return nil, err
	}
	w := wish{Volume: *v}
	w.place(made, bytes)
	*v = w.Volume
	limit, _ := strconv.ParseInt(k.text("bwlimit"), 10, 64) // 0, which is none, if it is not given
	if key, open, err := k.openDrive(k.vmid, from); err != nil || open && k.runs {
		return &backup{node: cmdline.NodeName(key), from: from, to: made, limit: limit}, err
	}
	return nil, k.Catalog.Convert(ctx, source, made, limit)
}

// formatFor is the format that was asked for, or the source's if the target
// keeps files as well.
func (k *cloning) formatFor(id string, v *config.Volume) string {
	if format := k.text("format"); format != "" && !slices.Contains([]string{"efidisk", "tpmstate"}, v.Bus) {
		return format
	}
	at, err := k.Catalog.Locate(v.Volume)
	if err != nil {
		return ""
	}
	_, plugin, err := k.Catalog.Find(cmp.Or(k.text("storage"), id))
	if err != nil {
		return "" // the allocation says so
	}
	if _, err := plugin.Parse(fmt.Sprintf("%d/vm-%d-disk-0.%s", k.newID, k.newID, at.Volume.Format)); err != nil {
		return "" // no files there: the storage's only format
	}
	return at.Volume.Format
}

func (j job) repairClone(ctx context.Context) error {
	newID, err := place.VMID(j.text("newid"))
	if err != nil {
		return nil // it was refused for that
	}
	if err := j.cancelJobs(ctx, j.vmid); err != nil {
		return err
	}
	return j.undoNew(ctx, newID, guest.LockClone)
}

func (j job) repairCreate(ctx context.Context) error { return j.undoCreate(ctx) }
