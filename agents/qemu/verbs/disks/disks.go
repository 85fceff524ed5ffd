// Package disks is what can be done with the disks of a VM: grow them, move them
// to another storage or VM, import images, note what is there.
//
// It owns the order of steps by which the configuration, the volume and a
// running QEMU come to agree, and their repair after a crash. Which disks a VM
// shall have is decided by its configuration, never here.
package disks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"etcpve/agents/qemu/verbs/blockjob"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Work is one task.
type Work struct{ blockjob.Jobs }

// Of returns the work of a task.
func Of(j job.Job) Work { return Work{blockjob.Jobs{Job: j}} }

// drive returns a disk of a VM by its key.
func drive(c *config.Config, key string) (config.Volume, error) {
	if !c.Main.Has(key) {
		return config.Volume{}, fmt.Errorf("disk '%s' does not exist", key)
	}
	if strings.HasPrefix(key, "unused") {
		return config.Volume{Kind: layout.QEMU, Key: key, Bus: "unused", Volume: strings.TrimPrefix(c.Main.Get(key), "file=")}, nil
	}
	v, err := config.ParseVolume(layout.QEMU, key, c.Main.Get(key))
	if err != nil {
		return v, err
	}
	if v.IsCDROM() {
		return v, errors.New("you can't do this with a cdrom")
	}
	if _, _, ok := v.Storage(); !ok {
		return v, fmt.Errorf("disk '%s' is not on a storage", key)
	}
	return v, nil
}

func volumeIn(s *config.Section, key string) string {
	v, err := config.ParseVolume(layout.QEMU, key, s.Get(key))
	if err != nil {
		return ""
	}
	return v.Volume
}

// snapshotted reports whether a snapshot names a volume.
func (j Work) snapshotted(c *config.Config, volume string) bool {
	for _, snap := range c.Snapshots {
		for _, v := range job.Owned(snap) {
			if v.Volume == volume {
				return true
			}
		}
	}
	return false
}

// adopt saves the setting of a drive of which the verb has made true what it
// says, so that the agent has nothing left to do for it.
func (j Work) adopt(ctx context.Context, vmid uint32, change func(*config.Config) (key, value string, err error)) error {
	var key, value string
	return j.EditWith(ctx, vmid, func(c *config.Config) (err error) {
		if key, value, err = change(c); err == nil {
			c.Main.Set(key, value)
		}
		return err
	}, func() error {
		if strings.HasPrefix(key, "unused") {
			return nil
		}
		return j.Adopt(vmid, map[string]string{key: value})
	})
}
