package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/verbs/blockjob"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// A cloning is one clone while it is made.
type cloning struct {
	Work
	newID  uint32
	source *config.Section // of the VM, or of its snapshot
	full   bool
	runs   bool   // the source runs, and not a snapshot of it is meant
	target string // another node, which is to have the clone
}

// cloning makes all checks.
func (j Work) cloning(ctx context.Context, c *config.Config) (k *cloning, err error) {
	k = &cloning{Work: j, source: c.Main}
	if k.newID, err = place.VMID(j.Text("newid")); err != nil {
		return nil, fmt.Errorf("newid: %q is not a VMID", j.Text("newid"))
	}
	name := j.Text("snapname")
	if name != "" {
		if k.source = c.Snapshots[name]; k.source == nil {
			return nil, fmt.Errorf("snapshot '%s' does not exist", name)
		}
	}
	template := c.Main.Bool(layout.QEMU, "template")
	if k.full = !template; j.Text("full") != "" {
		k.full = j.Truth("full")
	}
	running, err := j.Running(ctx, j.VMID)
	k.runs = running && name == ""
	switch {
	case err != nil:
		return nil, err
	case !k.full && j.Text("storage") != "":
		return nil, errors.New("parameter 'storage' not allowed for linked clones")
	case !k.full && j.Text("format") != "":
		return nil, errors.New("parameter 'format' not allowed for linked clones")
	}
	if err := errors.Join(j.hasPool(ctx, j.Text("pool")), k.sharedWith(j.Text("target"))); err != nil {
		return nil, err
	}
	if !k.full {
		return k, k.linkable()
	}
	return k, nil
}

// sharedWith refuses another node that does not see all disks of the clone.
func (k *cloning) sharedWith(node string) error {
	if node == "" || node == k.Node {
		return nil
	}
	if _, err := os.Stat(filepath.Join(k.Tree, "nodes", node)); err != nil {
		return fmt.Errorf("no such cluster node '%s'", node)
	}
	k.target = node
	for _, v := range config.Volumes(layout.QEMU, k.source) {
		id, _, ok := v.Storage()
		if !ok || v.IsCDROM() && !v.IsCloudInit() {
			continue
		}
		s, _, err := k.Catalog.Find(id)
		if err == nil && !s.Shared() {
			err = fmt.Errorf("can't clone VM to node '%s' (VM uses local storage)", node)
		}
		if err != nil {
			return err
		}
	}
	id := k.Text("storage")
	if id == "" {
		return nil
	}
	s, _, err := k.Catalog.Find(id)
	switch {
	case err != nil:
		return err
	case !s.OnNode(node):
		return fmt.Errorf("storage '%s' is not available on node '%s'", id, node)
	case !s.Shared():
		return fmt.Errorf("can't clone to non-shared storage '%s'", id)
	}
	return nil
}

// Clone makes a new VM from a VM, a template or a snapshot.
func (j Work) Clone(ctx context.Context) error {
	c, err := j.Unlocked(ctx)
	if err != nil {
		return err
	}
	k, err := j.cloning(ctx, c)
	if err != nil {
		return err
	}
	if err := j.locked(ctx, k.newID, guest.LockClone); err != nil { // nothing was made yet
		return err
	}
	made, err := k.volumes(ctx)
	if err == nil {
		err = j.Edit(ctx, k.newID, func(now *config.Config) error {
			now.Main = made
			return job.CheckText(now)
		})
	}
	if err == nil {
		err = j.joinPool(ctx, j.Text("pool"), k.newID)
	}
	if err == nil && k.target != "" {
		err = os.Rename(filepath.Join(j.Tree, j.Path(k.newID)), filepath.Join(j.Tree, layout.Guest{VMID: k.newID, Node: k.target, Kind: layout.QEMU}.Path()))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("clone failed: %w", err), j.undoNew(context.WithoutCancel(ctx), k.newID, guest.LockClone))
	}
	return nil
}

// linkable refuses disks that nothing can stand on.
func (k *cloning) linkable() error {
	for _, v := range k.disks() {
		can, err := k.Catalog.Can("clone", v.Volume, k.Text("snapname"))
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
	var copies []*blockjob.Backup
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
	if err := k.BackUp(ctx, k.VMID, copies); err != nil {
		return nil, err
	}
	for _, v := range config.Volumes(layout.QEMU, k.source) {
		if !v.IsCloudInit() {
			continue
		}
		id, _, _ := v.Storage()
		w := job.Wish{Volume: v}
		if err := k.AllocateCloudInit(ctx, k.newID, &w, cmp.Or(k.Text("storage"), id)); err != nil {
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
	name := "VM-" + strconv.FormatUint(uint64(k.VMID), 10)
	if k.source.Has("name") {
		name = k.source.Get("name")
	}
	made.Set("name", cmp.Or(k.Text("name"), "Copy-of-"+name))
	if text := k.Text("description"); text != "" {
		made.Set("description", text)
	}
	return made
}

// disk makes one disk. What a running QEMU has to copy is returned.
func (k *cloning) disk(ctx context.Context, v *config.Volume) (*blockjob.Backup, error) {
	if !k.full {
		k.Log.Printf("create linked clone of drive %s (%s)", v.Key, v.Volume)
		id, _, _ := v.Storage()
		made, err := k.Making(ctx, id, k.newID, func() (storage.ID, error) {
			return k.Catalog.Clone(ctx, v.Volume, k.newID, k.Text("snapname"))
		})
		if err != nil {
			return nil, err
		}
		v.Volume = made
		return nil, nil
	}
	k.Log.Printf("create full clone of drive %s (%s)", v.Key, v.Volume)
	from := v.Volume
	source, err := k.Catalog.Blockdev(from, k.Text("snapname"))
	if err != nil {
		return nil, err
	}
	bytes, err := k.Catalog.Size(ctx, from)
	if err != nil {
		return nil, err
	}
	id, _, _ := v.Storage()
	r := storage.Request{VMID: k.newID, Format: k.FormatFor(k.newID, cmp.Or(k.Text("storage"), id), v), Bytes: bytes}
	target := cmp.Or(k.Text("storage"), id)
	made, err := k.Alloc(ctx, target, r)
	if err != nil {
		return nil, err
	}
	w := job.Wish{Volume: *v}
	w.Put(made, bytes)
	*v = w.Volume
	limit := k.Limit(ctx, "clone", from, made)
	if key, open, err := k.OpenDrive(k.VMID, from); err != nil || open && k.runs {
		return &blockjob.Backup{Node: cmdline.NodeName(key), From: from, To: made, Limit: limit}, err
	}
	return nil, k.Catalog.Convert(ctx, source, made, limit)
}

func (j Work) RepairClone(ctx context.Context) error {
	newID, err := place.VMID(j.Text("newid"))
	if err != nil {
		return nil // it was refused for that
	}
	if err := j.CancelJobs(ctx, j.VMID); err != nil {
		return err
	}
	return j.undoNew(ctx, newID, guest.LockClone)
}
