package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Template makes the disks of a stopped VM bases that clones stand on.
func (j Work) Template(ctx context.Context) error {
	c, err := j.Unlocked(ctx)
	if err != nil {
		return err
	}
	running, err := j.Running(ctx, j.VMID)
	switch {
	case err != nil:
		return err
	case c.Main.Bool(layout.QEMU, "template") && j.Text("disk") == "":
		return errors.New("you can't convert a template to a template")
	case len(c.Snapshots) > 0:
		return errors.New("you can't convert a VM to template if VM has snapshots")
	case running:
		return errors.New("you can't convert a VM to template if VM is running")
	}
	return j.toTemplate(ctx)
}

// toTemplate converts disk by disk. It may be repeated: a disk of which only the
// name in the configuration is left to be changed is found under its new one.
func (j Work) toTemplate(ctx context.Context) error {
	err := j.Edit(ctx, j.VMID, func(c *config.Config) error { c.Main.Set("template", "1"); return nil })
	if err != nil {
		return err
	}
	c, err := j.Load(ctx, j.VMID)
	if err != nil {
		return err
	}
	for _, v := range config.Volumes(layout.QEMU, c.Main) {
		if _, _, ok := v.Storage(); !ok || v.IsCDROM() || j.Text("disk") != "" && j.Text("disk") != v.Key {
			continue
		}
		at, err := j.Catalog.Locate(v.Volume)
		if err != nil {
			return err
		}
		if at.Volume.IsBase || at.Volume.Base != "" {
			continue
		}
		if v.Volume, err = j.base(ctx, v.Volume); err != nil {
			return fmt.Errorf("%s: %w", v.Key, err)
		}
		err = j.Edit(ctx, j.VMID, func(c *config.Config) error { c.Main.Set(v.Key, v.String()); return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// base makes a base of a volume, unless that was done already.
func (j Work) base(ctx context.Context, volume string) (string, error) {
	if _, err := j.Catalog.Size(ctx, volume); errors.Is(err, os.ErrNotExist) {
		name := strings.LastIndexAny(volume, ":/") + 1
		renamed := volume[:name] + strings.Replace(volume[name:], "vm-", "base-", 1)
		if _, err := j.Catalog.Size(ctx, renamed); err == nil {
			return renamed, nil
		}
	}
	made, err := j.Catalog.CreateBase(ctx, volume)
	return made.String(), err
}

func (j Work) RepairTemplate(ctx context.Context) error {
	c, err := j.Load(ctx, j.VMID)
	if err != nil || !c.Main.Bool(layout.QEMU, "template") {
		return job.Gone(err)
	}
	return j.toTemplate(ctx)
}
