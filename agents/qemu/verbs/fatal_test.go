package verbs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
)

// dieEnv kills the agents at a call of their storage: "before:Free:2" as they
// come to their second Free, "after:Alloc:1" when the first Alloc is done.
const dieEnv = "VERBS_TEST_DIE"

// A fatal storage is a directory whose calls kill the process that makes them.
type fatal struct {
	dir.Plugin
	calls *atomic.Int32
}

func (f fatal) die(when, call string, count int32) {
	if fmt.Sprintf("%s:%s:%d", when, call, count) == os.Getenv(dieEnv) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
		select {}
	}
}

// count numbers the calls that the environment is about.
func (f fatal) count(call string) int32 {
	if strings.Contains(os.Getenv(dieEnv), ":"+call+":") {
		return f.calls.Add(1)
	}
	return 0
}

func around[T any](f fatal, call string, do func() (T, error)) (T, error) {
	n := f.count(call)
	f.die("before", call, n)
	result, err := do()
	f.die("after", call, n)
	return result, err
}

func plainly(do func() error) func() (struct{}, error) {
	return func() (struct{}, error) { return struct{}{}, do() }
}

func (f fatal) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	return around(f, "Alloc", func() (string, error) { return f.Plugin.Alloc(ctx, c, r) })
}

func (f fatal) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	_, err := around(f, "Free", plainly(func() error { return f.Plugin.Free(ctx, c, v) }))
	return err
}

func (f fatal) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	return around(f, "Size", func() (int64, error) { return f.Plugin.Size(ctx, c, v) })
}

func (f fatal) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	return around(f, "List", func() ([]storage.Info, error) { return f.Plugin.List(ctx, c, q) })
}

func (f fatal) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	_, err := around(f, "Resize", plainly(func() error { return f.Plugin.Resize(ctx, c, v, bytes) }))
	return err
}

func (f fatal) DeleteSnapshot(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	_, err := around(f, "DeleteSnapshot", plainly(func() error { return f.Plugin.DeleteSnapshot(ctx, c, v, name) }))
	return err
}

func (f fatal) Rollback(ctx context.Context, c *storage.Config, v storage.Volume, name string) error {
	_, err := around(f, "Rollback", plainly(func() error { return f.Plugin.Rollback(ctx, c, v, name) }))
	return err
}

func (f fatal) CreateBase(ctx context.Context, c *storage.Config, v storage.Volume) (string, error) {
	return around(f, "CreateBase", func() (string, error) { return f.Plugin.CreateBase(ctx, c, v) })
}

func (f fatal) Clone(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, snapshot string) (string, error) {
	return around(f, "Clone", func() (string, error) { return f.Plugin.Clone(ctx, c, v, vmid, snapshot) })
}

func (f fatal) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	return around(f, "Rename", func() (string, error) { return f.Plugin.Rename(ctx, c, v, vmid, name) })
}

// A deed is a verb at a VM of two disks, the moments at which its agents die, and
// what has to be true at the end.
type deed struct {
	verb    string
	params  []string
	moments []string
	before  func(n *node)
	whole   []string // of the configuration of 100
}

func deeds() []deed {
	kept := []string{"scsi0: local:100/vm-100-disk-0.qcow2", "scsi1: local:100/vm-100-disk-1.qcow2"}
	snapshot := func(n *node) {
		n.do(Snapshot, 100, "snapname", "xx")
		n.fillDisk("local:100/vm-100-disk-0.qcow2", "two")
	}
	start := func(n *node) { n.do(Start, 100) }
	return []deed{
		{Snapshot, []string{"snapname", "xx", "vmstate", "1"}, []string{"after:Alloc:1"}, start, append(kept, "![xx]")},
		{Suspend, []string{"todisk", "1"}, []string{"after:Alloc:1"}, start, append(kept, "!vmstate:")},
		{Create, append([]string{"ide2", "local:cloudinit"}, blank("scsi0", "other:0.01,format=qcow2")...), []string{"before:Alloc:1", "after:Alloc:1", "after:Alloc:2"}, nil, kept},
		{Destroy, nil, []string{"before:Free:1", "after:Free:2"}, nil, nil},
		{Rollback, []string{"snapname", "xx"}, []string{"before:Rollback:1", "after:Rollback:1", "after:Rollback:2"}, snapshot, append(kept, "parent: xx", "[xx]")},
		{DelSnapshot, []string{"snapname", "xx"}, []string{"before:DeleteSnapshot:1", "after:DeleteSnapshot:2"}, snapshot, append(kept, "![xx]")},
		{Template, nil, []string{"before:CreateBase:1", "after:CreateBase:1", "after:CreateBase:2"}, nil, []string{"template: 1", "scsi0: local:100/base-100-disk-0.qcow2", "scsi1: local:100/base-100-disk-1.qcow2"}},
		{Clone, []string{"newid", "101"}, []string{"after:Clone:1"}, func(n *node) { n.do(Template, 100) }, []string{"scsi0: local:100/base-100-disk-0.qcow2"}},
		{Resize, []string{"disk", "scsi0", "size", "+8M"}, []string{"before:Resize:1", "after:Resize:1"}, nil, []string{"scsi0: local:100/vm-100-disk-0.qcow2,size="}},
		{Configure, []string{"delete", "scsi1", "force", "1"}, []string{"before:Free:1", "after:Free:1"}, nil, []string{kept[0], "!scsi1:", "!unused0:"}},
		{Configure, []string{"scsi2", "other:0.01"}, []string{"after:Alloc:1"}, nil, append(kept, "!scsi2:")},
		{ImportDisk, []string{"source", "local:100/vm-100-disk-0.qcow2", "storage", "other"}, []string{"before:Alloc:1", "after:Alloc:1"}, nil, append(kept, "!unused0:")},
		{Move, []string{"disk", "scsi1", "target-vmid", "102"}, []string{"before:Rename:1", "after:Rename:1"}, func(n *node) { n.do(Create, 102) }, kept[:1]},
	}
}

// TestAgentKilledInTheMiddleOfAVerb kills the agents inside the calls of their
// storage. Those that come next finish the work or undo it.
func TestAgentKilledInTheMiddleOfAVerb(t *testing.T) {
	for _, d := range deeds() {
		for _, m := range d.moments {
			t.Run(d.verb+"/"+m, func(t *testing.T) {
				n := newNode(t)
				if d.verb != Create {
					n.do(Create, 100, blank("scsi0", "local:0.01,format=qcow2", "scsi1", "local:0.01,format=qcow2")...)
					n.fillDisk("local:100/vm-100-disk-0.qcow2", "one")
				}
				if d.before != nil {
					d.before(n)
				}
				t.Cleanup(func() { // a base can be removed by nobody before
					_ = exec.Command("chattr", "-R", "-i", n.images).Run() // not every file system knows of it
				})
				n.end()
				t.Setenv(dieEnv, m)
				died := n.spawnMortal()
				vmid := uint32(100)
				if d.verb == Create {
					vmid = 103
				}
				n.drop(d.verb, vmid, d.params...)
				<-died
				t.Setenv(dieEnv, "")
				n.begin()
				n.until("the end of the task", func() bool { return strings.Contains(n.claimed(d.verb), "\nstatus: ") })
				n.consistent(d)
			})
		}
	}
}

// consistent requires that every volume has one owner and every owner its volume.
func (n *node) consistent(d deed) {
	n.Helper()
	there := map[string]bool{}
	for _, s := range []string{"local", "other"} {
		all, err := n.Catalog.List(n.Context(), s, "images", 0)
		n.must(err)
		for _, i := range all {
			there[s+":"+i.Name] = true
			named, err := job.Job{Place: n.Place}.Named(n.Context(), s+":"+i.Name)
			n.must(err)
			if !named {
				n.Errorf("nobody names %s:%s", s, i.Name)
			}
		}
	}
	files, err := n.Configurations(n.Context())
	n.must(err)
	for _, file := range files {
		vmid, _, _ := strings.Cut(filepath.Base(file), ".")
		var id uint32
		_, err := fmt.Sscan(vmid, &id)
		n.must(err)
		c, err := n.Load(n.Context(), id)
		n.must(err)
		for volume := range job.VolumesOf(c) {
			if !there[volume] {
				n.Errorf("%s names %s, which is not there:\n%s", file, volume, n.conf(id))
			}
		}
		if c.Main.Has("lock") {
			n.Errorf("%s is still locked:\n%s", file, n.conf(id))
		}
	}
	switch d.verb {
	case Destroy:
		if n.conf(100) != "" {
			n.Errorf("half a VM is left:\n%s", n.conf(100))
		}
	case Create:
		if n.conf(103) != "" {
			n.Errorf("half a VM is there:\n%s", n.conf(103))
		}
	default:
		n.has(100, d.whole...)
	}
	if d.verb == Rollback {
		n.reads("local:100/vm-100-disk-0.qcow2", "one")
	}
}
