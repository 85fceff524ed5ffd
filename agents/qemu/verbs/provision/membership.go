package provision

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/lock"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/user"
)

// Files that name VMs, and the lock of those of HA.
const (
	userFile    = "user.cfg"
	haResources = "ha/resources.cfg"
	haLock      = "domain-ha"
)

// revise changes a file of the tree under its lock.
func (j Work) revise(ctx context.Context, name, path string, change func(text string) string) error {
	before, err := j.read(ctx, path)
	if err != nil || change(before) == before {
		return err
	}
	return lock.With(ctx, j.Tree, name, func(ctx context.Context) error {
		before, err := j.read(ctx, path)
		if err != nil {
			return err
		}
		after := change(before)
		if after == before {
			return nil
		}
		j.Log.Printf("update %s for VM %d", path, j.VMID)
		return j.Write(ctx, path, after)
	})
}

// hasPool refuses a pool that does not exist.
func (j Work) hasPool(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	text, err := j.read(ctx, userFile)
	if err == nil && user.Parse(text).Pools[name] == nil {
		err = fmt.Errorf("pool '%s' does not exist", name)
	}
	return err
}

// joinPool makes a VM a member of a pool, and of no other.
func (j Work) joinPool(ctx context.Context, name string, vmid uint32) error {
	if name == "" {
		return nil
	}
	return j.revise(ctx, lock.File(userFile), userFile, func(text string) string { return inPool(text, name, vmid) })
}

// inPool is user.cfg with a VM as the member of a pool; "" is none.
func inPool(text, name string, vmid uint32) string {
	id := strconv.FormatUint(uint64(vmid), 10)
	d := user.ParseDocument(text)
	for _, r := range d.Records() {
		if r.Kind != "pool" {
			continue
		}
		members := schema.SplitList(r.Field(2))
		there, wanted := slices.Contains(members, id), r.Field(0) == name
		if there == wanted {
			continue
		}
		if members = slices.DeleteFunc(members, func(m string) bool { return m == id }); wanted {
			members = append(members, id)
		}
		d.Set("pool", r.Field(0), r.Field(1), strings.Join(members, ","), r.Field(3))
	}
	return d.String()
}

// forgetAccess takes a VM out of its pool, and what was granted on it back.
func (j Work) forgetAccess(ctx context.Context) error {
	path := "/vms/" + strconv.FormatUint(uint64(j.VMID), 10)
	return j.revise(ctx, lock.File(userFile), userFile, func(text string) string {
		d := user.ParseDocument(inPool(text, "", j.VMID))
		d.Remove("acl", func(r user.Record) bool {
			where, _ := user.NormalizePath(r.Field(1))
			return where == path
		})
		return d.String()
	})
}

// manage has HA look after a new VM.
func (j Work) manage(ctx context.Context, state string) error {
	header := "vm: " + strconv.FormatUint(uint64(j.VMID), 10)
	j.Log.Printf("Add as HA resource")
	return j.revise(ctx, haLock, haResources, func(text string) string {
		text = withoutSection(text, header)
		if text != "" && !strings.HasSuffix(text, "\n\n") {
			text = strings.TrimSuffix(text, "\n") + "\n\n"
		}
		return text + header + "\n\tstate " + state + "\n"
	})
}
