package disks

import (
	"context"
	"errors"
	"slices"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
)

// RepairMove removes what a move made and nothing uses. If QEMU had switched
// over when the agent died, the configuration is made to say so.
func (j Work) RepairMove(ctx context.Context) error {
	if j.Text("target-vmid") != "" {
		return j.repairReassign(ctx)
	}
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return errors.Join(job.Gone(err), j.Discard(ctx))
	}
	made := strings.Fields(j.Params[job.MadeKey])
	key := j.Text("disk")
	if len(made) == 1 && c.Main.Has(key) {
		if done, err := j.pivoted(ctx, key, made[0]); err != nil {
			return err
		} else if done {
			return j.catchUp(ctx, key, made[0])
		}
	}
	return errors.Join(j.CancelJobs(ctx, j.VMID), j.Discard(ctx), j.Release(ctx, j.VMID, key))
}

// pivoted reports whether a running QEMU uses the copy already.
func (j Work) pivoted(ctx context.Context, key, made string) (bool, error) {
	if running, err := j.Running(ctx, j.VMID); err != nil || !running {
		return false, err
	}
	path, err := j.Catalog.Path(made)
	if err != nil {
		return false, nil
	}
	var blocks []blockInfo
	if err := j.Command(ctx, j.VMID, "query-block", nil, &blocks); err != nil {
		return false, err
	}
	return slices.ContainsFunc(blocks, func(b blockInfo) bool {
		return b.Inserted.Image.file() == path && strings.Contains("/"+b.QDev+"/", "/"+key+"/")
	}), nil
}

// blockInfo is what QEMU says of a disk.
type blockInfo struct {
	QDev     string `json:"qdev"`
	Inserted struct {
		Image imageInfo `json:"image"`
	} `json:"inserted"`
}

type imageInfo struct {
	Filename string     `json:"filename"`
	Below    *imageInfo `json:"backing-image"`
}

// file is the name of the image: of what only passes data on, as a throttle does,
// QEMU gives a description in JSON, and names what lies below.
func (i imageInfo) file() string {
	for strings.HasPrefix(i.Filename, "json:") && i.Below != nil {
		i = *i.Below
	}
	return i.Filename
}

// catchUp makes the configuration name the copy that QEMU uses.
func (j Work) catchUp(ctx context.Context, key, made string) error {
	return j.adopt(ctx, j.VMID, func(c *config.Config) (string, string, error) {
		v, err := drive(c, key)
		if err != nil || v.Volume == made {
			return key, c.Main.Get(key), err
		}
		if err := guest.AddUnused(c.Main, v.Volume); err != nil {
			return "", "", err
		}
		bytes, err := j.Catalog.Size(ctx, made)
		moved := job.Wish{Volume: v}
		moved.Put(made, bytes)
		return key, moved.String(), err
	})
}

// RepairMade removes what a task made and no configuration names.
func (j Work) RepairMade(ctx context.Context) error { return j.Discard(ctx) }
