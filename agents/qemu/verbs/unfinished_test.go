package verbs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/qemu/verbs/job"
)

// TestKilledRescanChangesAllOrNothing kills the agents inside the calls by which a
// rescan looks at volumes. Of what it finds nothing is written until all is known;
// the next one does it.
func TestKilledRescanChangesAllOrNothing(t *testing.T) {
	for _, m := range []string{"before:List:1", "after:List:2", "before:Size:1", "after:Size:2"} {
		t.Run(m, func(t *testing.T) {
			n := newNode(t)
			n.do(Create, 100, blank("scsi0", "local:0.01,format=qcow2", "scsi1", "other:0.01,format=raw")...)
			lost := n.disk(100, "raw")
			path, err := n.Catalog.Path("other:100/vm-100-disk-0.raw")
			n.must(err)
			n.must(os.Truncate(path, 32<<20))
			n.end()
			before := n.conf(100)
			t.Setenv(dieEnv, m)
			died := n.spawnMortal()
			n.drop(Rescan, 100)
			<-died
			t.Setenv(dieEnv, "")
			if now := n.conf(100); now != before {
				t.Errorf("half of it is written:\n%s", now)
			}
			n.begin()
			n.until("the end of the task", func() bool { return strings.Contains(n.claimed(Rescan), "\nstatus: ") })
			n.do(Rescan, 100)
			n.has(100, "unused0: "+lost, "scsi1: other:100/vm-100-disk-0.raw,size=32M", "!lock:")
		})
	}
}

// TestAgentsKilledWhileAStateIsLoaded kills them at moments of a start that goes on
// from a saved state. Those that come next have the guest run, in that state and
// once, and the volume of the state is gone.
func TestAgentsKilledWhileAStateIsLoaded(t *testing.T) {
	there := func(name string) func(*node, string) bool {
		return func(n *node, _ string) bool {
			_, err := os.Stat(filepath.Join(n.RunDir, name))
			return err == nil
		}
	}
	for _, m := range []moment{
		{"claimed", inTask("claimed")}, {"recorded", there("100.json")}, {"QEMU begun", there("100.pid")},
		{"unlocked", func(n *node, _ string) bool { return !strings.Contains(n.conf(100), "lock: ") }},
	} {
		t.Run(m.name, func(t *testing.T) {
			n := newNode(t)
			n.do(Create, 100, blank("scsi0", "local:0.01,format=qcow2")...)
			n.do(Start, 100)
			n.do(Suspend, 100, "todisk", "1")
			n.status(100, "stopped")
			n.until("that all is cleaned up", func() bool { _, known, err := n.Record(100); return err == nil && !known })
			c, err := n.Load(t.Context(), 100)
			n.must(err)
			state := c.Main.Get("vmstate")
			n.end()
			kill := n.spawn()
			n.drop(Start, 100)
			n.until(m.name, func() bool { return m.comes(n, n.claimed(Start)) })
			kill()
			n.spawn()
			n.status(100, "running")
			if argv := strings.Join(n.argv(100), " "); !strings.Contains(argv, "-incoming") {
				t.Errorf("it was booted: %s", argv)
			}
			n.until("that the state is spent", func() bool {
				named, err := job.Job{Place: n.Place}.Named(t.Context(), state)
				_, gone := n.Catalog.Size(t.Context(), state)
				return err == nil && !named && gone != nil && !strings.Contains(n.conf(100), "lock:")
			})
			n.do(Stop, 100)
			n.status(100, "stopped")
			n.do(Start, 100)
			if argv := strings.Join(n.argv(100), " "); strings.Contains(argv, "-incoming") {
				t.Errorf("it began in that state twice: %s", argv)
			}
			path, err := n.Catalog.Path("local:100/vm-100-disk-0.qcow2")
			n.must(err)
			n.do(Stop, 100)
			n.must(exec.Command("qemu-img", "check", "-q", path).Run())
		})
	}
}
