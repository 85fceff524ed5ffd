package disks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

// ImportDisk makes a volume of an image, as an unused disk or as a drive.
func (j Work) ImportDisk(ctx context.Context) error {
	if _, err := j.Unlocked(ctx); err != nil {
		return err
	}
	w := job.Wish{Volume: config.Volume{Kind: layout.QEMU, Key: "unused0", Bus: "unused", Options: schema.Values{}}, From: j.Text("source")}
	if format := j.Text("format"); format != "" {
		w.Options["format"] = format
	}
	target := j.Text("target-disk")
	if target != "" {
		v, err := config.ParseVolume(layout.QEMU, target, j.Text("storage")+":0")
		if err != nil {
			return err
		}
		v.Options = w.Options
		w.Volume = v
	}
	j.Log.Printf("importing disk '%s' to VM %d ...", w.From, j.VMID)
	err := j.FillFrom(ctx, j.VMID, &w, j.Text("storage"))
	key := target
	if err == nil {
		err = j.Edit(ctx, j.VMID, func(c *config.Config) error {
			if target == "" {
				if err := guest.AddUnused(c.Main, w.Volume.Volume); err != nil {
					return err
				}
				key = unusedOf(c, w.Volume.Volume)
				return nil
			}
			if c.Main.Has(target) {
				return fmt.Errorf("target disk '%s' already exists", target)
			}
			c.Main.Set(target, w.String())
			return job.CheckText(c)
		})
	}
	if err != nil {
		return errors.Join(err, j.Discard(context.WithoutCancel(ctx)))
	}
	j.Log.Printf("%s: successfully imported disk '%s'", key, w.Volume.Volume)
	return nil
}

func unusedOf(c *config.Config, volume string) string {
	for _, key := range c.Main.Series("unused") {
		if strings.TrimPrefix(c.Main.Get(key), "file=") == volume {
			return key
		}
	}
	return ""
}
