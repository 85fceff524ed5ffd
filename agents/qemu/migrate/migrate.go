// Package migrate moves VMs between the nodes of a cluster: their configuration,
// their disks that no other node sees, and if they run, their memory.
//
// Two tasks do it. qmigrate runs where the VM is and decides; qmtunnel runs where
// it goes, makes volumes, holds a QEMU that waits for the state, and undoes all of
// it unless it was told that the VM comes. The VM belongs to one node at any
// moment: to the one whose directory has its configuration, which moves by one
// rename. Nothing is removed before that, and nothing runs on the other node
// before it.
//
// Either agent may end at any moment. Both note in their task's file what they
// have done, and the repair of each brings the VM to where its configuration is,
// unlocked, and removes what belongs to nowhere.
//
// It owns these tasks and what they say to each other through a tunnel. It never
// passes anything of a configuration to a shell, and never lets two nodes run one
// VM.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/place"
	"etcpve/agents/task"
	"etcpve/agents/tunnel"
	config "etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
)

// Types of tasks, as Proxmox VE calls them.
const (
	Migrate = "qmigrate"
	Tunnel  = "qmtunnel"
)

// A Receiver starts and ends QEMUs that wait for a VM; an agent of VMs is one.
type Receiver interface {
	Receive(ctx context.Context, v qemu.Arrival) error
	Discard(ctx context.Context, vmid uint32) error
}

// Verbs move VMs from and to a node.
type Verbs struct {
	place.Place
	Arrivals Receiver
}

// A job is one task with the VM it is about.
type job struct {
	Verbs
	vmid   uint32
	params map[string]string
	log    *task.Log
}

func (j job) text(name string) string { return j.params[name] }

func (j job) truth(name string) bool {
	truth, _ := schema.Bool(j.params[name]) // "" is no
	return truth
}

// keep sets a parameter here and in the file of the task.
func (j job) keep(key, value string) error {
	j.params[key] = value
	return j.log.Keep(key, value)
}

func (v Verbs) handler(do func(job, context.Context) error) task.Handler {
	return func(ctx context.Context, r task.Request, log *task.Log) error {
		vmid, err := place.VMID(r.ID)
		if err != nil {
			return err
		}
		return do(job{Verbs: v, vmid: vmid, params: r.Params, log: log}, ctx)
	}
}

// Handlers returns the tasks there are.
func (v Verbs) Handlers() map[string]task.Handler {
	return map[string]task.Handler{Migrate: v.handler(job.migrate), Tunnel: v.handler(job.receive)}
}

// Repairs returns what cleans up after a task whose agent died.
func (v Verbs) Repairs() map[string]task.Handler {
	return map[string]task.Handler{Migrate: v.handler(job.repairMigrate), Tunnel: v.handler(job.repairReceive)}
}

// node is this node as an end of a tunnel.
func (j job) node() tunnel.Node { return tunnel.Node{Tree: j.Tree, Name: j.Node} }

// on is the place of another node's VMs: its files in the tree.
func (j job) on(node string) place.Place {
	p := j.Place
	p.Node, p.Catalog.Node = node, node
	return p
}

// Looks for a configuration that has just moved.
const (
	maxLooks = 50
	lookPoll = 20 * time.Millisecond
)

// where returns the node that has the configuration, and the configuration; no
// node if none has it.
func (j job) where(ctx context.Context) (node string, c *config.Config, err error) {
	for range maxLooks {
		at, ok, e := j.Find(ctx, j.vmid)
		if e != nil || !ok {
			return "", nil, e
		}
		c, err = j.on(at.Node).Load(ctx, j.vmid)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return at.Node, c, err
		}
		time.Sleep(lookPoll) // it was renamed after it was found
	}
	return "", nil, err
}

// unlock takes the lock of a migration away, wherever in the cluster the VM is.
func (j job) unlock(ctx context.Context, node string) error {
	return j.on(node).Edit(ctx, j.vmid, func(c *config.Config) error {
		if c.Main.Get("lock") == guest.LockMigrate {
			c.Main.Delete("lock")
		}
		return nil
	})
}

// free removes the volumes of this node in a list that no configuration names
// any more. All are tried.
func (j job) free(ctx context.Context, volumes []string) (failures error) {
	for _, volume := range volumes {
		named, err := j.named(ctx, volume)
		if err != nil || named {
			failures = errors.Join(failures, err)
			continue
		}
		if _, err := j.Catalog.Size(ctx, volume); errors.Is(err, os.ErrNotExist) {
			continue
		}
		j.log.Printf("removing volume '%s' on node '%s'", volume, j.Node)
		if err := j.Catalog.Free(ctx, volume); err != nil && !errors.Is(err, os.ErrNotExist) {
			failures = errors.Join(failures, fmt.Errorf("volume '%s': %w", volume, err))
		}
	}
	return failures
}

// words reads a list that keep has written.
func (j job) words(key string) []string { return strings.Fields(j.params[key]) }
