// Package provision makes VMs, changes what they are made of, and removes them.
//
// It owns what a new VM gets without being told (identity, addresses), the lock
// under which it is incomplete, and the undoing of one that could not be
// completed. It never starts a QEMU and never touches a volume of another VM.
package provision

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"time"

	"etcpve/agents/qemu/verbs/blockjob"
	"etcpve/agents/qemu/verbs/job"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Work is one task.
type Work struct{ blockjob.Jobs }

// Of returns the work of a task.
func Of(j job.Job) Work { return Work{blockjob.Jobs{Job: j}} }

// settings are the parameters that are keys of a configuration.
func (j Work) settings() (keys []string) {
	table := config.Keys(layout.QEMU)
	for key := range j.Params {
		if table[key] != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// locked creates an empty configuration that is locked for the task.
func (j Work) locked(ctx context.Context, vmid uint32, lock string) error {
	c := config.New(layout.QEMU, vmid)
	c.Main.Set("lock", lock)
	return j.Place.Create(ctx, c)
}

// complete sets what every new VM has.
func complete(c *config.Config) {
	if !c.Main.Has("smbios1") {
		c.Main.Set("smbios1", "uuid="+newUUID())
	}
	if !c.Main.Has("vmgenid") {
		c.Main.Set("vmgenid", newUUID())
	}
	if !c.Main.Has("meta") {
		c.Main.Set("meta", "ctime="+strconv.FormatInt(time.Now().Unix(), 10))
	}
	if c.Main.Get("vmgenid") == "1" {
		c.Main.Set("vmgenid", newUUID())
	}
	newMACs(c.Main, false)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 4122 variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// macPrefix is the vendor part of addresses that are made up.
const macPrefix = "BC:24:11"

// newMACs gives NICs an address that have none, or all of them.
func newMACs(s *config.Section, all bool) {
	for _, key := range s.Series("net") {
		n, err := config.ParseNet(layout.QEMU, key, s.Get(key))
		if err == nil && (all || n.Options["macaddr"] == "") {
			n.Options["macaddr"] = newMAC()
			s.Set(key, n.String())
		}
	}
}

func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s:%02X:%02X:%02X", macPrefix, b[0], b[1], b[2])
}

// undoNew removes a new VM with its volumes while its lock says that it is not
// complete.
func (j Work) undoNew(ctx context.Context, vmid uint32, lock string) error {
	c, err := j.Load(ctx, vmid)
	if err == nil && c.Main.Get("lock") != lock {
		return nil // it was completed, or is not this task's
	}
	if err = job.Gone(err); err != nil {
		return err
	}
	if c != nil {
		if err := j.Remove(ctx, j.Path(vmid)); err != nil {
			return err
		}
	}
	return j.Discard(ctx)
}
