package verbs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/agents/storage"
	"etcpve/agents/task"
	"etcpve/plugins/storage/dir"
)

// agentEnv makes this program the agents of a node instead of its tests: in a
// process of their own they can be killed.
const agentEnv = "VERBS_TEST_AGENTS"

func TestMain(m *testing.M) {
	if where := os.Getenv(agentEnv); where != "" {
		tree, run, _ := strings.Cut(where, ":")
		os.Exit(serveNode(tree, run))
	}
	os.Exit(m.Run())
}

func placeOf(tree, run string, log *slog.Logger) place.Place {
	return place.Place{
		Tree: tree, Node: "n1", RunDir: run, Locks: filepath.Join(run, "lock"), Log: log,
		Catalog: storage.Catalog{
			Tree: tree, Node: "n1", Run: host.System{}, Locks: filepath.Join(run, "storage"),
			Plugins: map[string]storage.Plugin{"dir": fatal{dir.Plugin{Run: host.System{}}, new(atomic.Int32)}},
		},
	}
}

func serveNode(tree, run string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runAgents(ctx, placeOf(tree, run, slog.New(slog.NewTextHandler(os.Stderr, nil)))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// spawn starts the agents in a process of their own.
func (n *node) spawn() (kill func()) {
	n.Helper()
	agents := exec.Command(os.Args[0], "-test.run=^$")
	agents.Env = append(os.Environ(), agentEnv+"="+n.Tree+":"+n.RunDir)
	agents.Stderr = testWriter{n.T}
	n.must(agents.Start())
	n.end = func() {
		_ = agents.Process.Signal(syscall.SIGTERM) // it may have been killed
		_ = agents.Wait()
		n.end = nil
	}
	return func() {
		n.must(agents.Process.Kill())
		_ = agents.Wait()
		n.end = nil
	}
}

// spawnMortal starts agents that will end by themselves.
func (n *node) spawnMortal() (died <-chan struct{}) {
	n.Helper()
	agents := exec.Command(os.Args[0], "-test.run=^$")
	agents.Env = append(os.Environ(), agentEnv+"="+n.Tree+":"+n.RunDir)
	agents.Stderr = testWriter{n.T}
	n.must(agents.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = agents.Wait() // killed by itself
	}()
	n.end = func() {
		_ = agents.Process.Kill() // it may have ended
		<-done
		n.end = nil
	}
	return done
}

// A moment is when to kill: something that can be seen of the work.
type moment struct {
	name  string
	comes func(n *node, claimed string) bool
}

func inTask(text string) func(*node, string) bool {
	return func(_ *node, claimed string) bool { return strings.Contains(claimed, text) }
}

func inConf(vmid uint32, text string) func(*node, string) bool {
	return func(n *node, _ string) bool { return strings.Contains(n.conf(vmid), text) }
}

// drop asks for a task and does not wait for it.
func (n *node) drop(kind string, vmid uint32, params ...string) {
	n.Helper()
	r := task.Request{Type: kind, ID: fmt.Sprint(vmid), Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		r.Params[params[i]] = params[i+1]
	}
	n.must(os.WriteFile(filepath.Join(n.Tree, task.Dir("n1"), "wish"), []byte(r.String()), 0o640))
}

// claimed returns the file of the newest claimed task of a type. An agent that
// was killed while it wrote leaves a draft with a longer name.
func (n *node) claimed(kind string) string {
	found, _ := filepath.Glob(filepath.Join(n.Tree, task.Dir("n1"), "UPID:*:"+kind+":*@pam:")) // the pattern is well formed
	if len(found) == 0 {
		return ""
	}
	text, _ := os.ReadFile(found[len(found)-1]) // "" if it is being renamed
	return "claimed\n" + string(text)
}

func (n *node) until(what string, ok func() bool) {
	n.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.Fatalf("still waiting for %s; configuration:\n%s", what, n.conf(100))
		}
	}
}

// TestKilledAgentLeavesNothingHalfDone kills the agents in the middle of verbs.
// Those that come next finish the work or undo it.
func TestKilledAgentLeavesNothingHalfDone(t *testing.T) {
	for _, c := range []struct {
		verb    string
		params  []string
		moments []moment
	}{
		{Snapshot, []string{"snapname", "xx", "vmstate", "1"}, []moment{{"claimed", inTask("claimed")}, {"written", inConf(100, "snapstate: prepare")}, {"unlocked", inConf(100, "parent: xx")}}},
		{Rollback, []string{"snapname", "xx"}, []moment{{"locked", inConf(100, "lock: rollback")}, {"applied", func(n *node, claimed string) bool {
			return strings.Contains(claimed, "begun: 1") && !strings.Contains(n.conf(100), "lock:")
		}}}},
		{Suspend, []string{"todisk", "1"}, []moment{{"locked", inConf(100, "lock: suspending")}, {"saved", inConf(100, "lock: suspended")}}},
		{Move, []string{"disk", "scsi0", "storage", "other", "bwlimit", "400000"}, []moment{{"made", inTask("made: ")}, {"moved", inConf(100, "scsi0: other:")}}},
		{Clone, []string{"newid", "101", "storage", "other"}, []moment{{"locked", inConf(101, "lock: clone")}, {"made", inTask("made: ")}}},
	} {
		for _, m := range c.moments {
			t.Run(c.verb+"/"+m.name, func(t *testing.T) {
				n := newNode(t)
				n.end()
				kill := n.spawn()
				n.do(Create, 100, blank("scsi0", "local:0.125,format=qcow2")...)
				n.fillDisk("local:100/vm-100-disk-0.qcow2", "one")
				n.do(Start, 100)
				if c.verb == Rollback {
					n.do(Snapshot, 100, "snapname", "xx", "vmstate", "1")
				}
				n.drop(c.verb, 100, c.params...)
				n.until(m.name, func() bool { return m.comes(n, n.claimed(c.verb)) })
				kill()
				n.spawn()
				n.until("the end of the task", func() bool { return strings.Contains(n.claimed(c.verb), "\nstatus: ") })
				n.settled(c.verb)
			})
		}
	}
}

// settled requires that the VM is whole: nothing locked, nothing of it lost,
// nothing left that nobody names, and that it can be worked with.
func (n *node) settled(verb string) {
	n.Helper()
	if strings.Contains(n.conf(100), "lock: suspended") {
		n.status(100, "stopped")
		n.do(Start, 100)
	}
	n.status(100, "running")
	n.has(100, "scsi0: ", "!lock:", "!snapstate:")
	disk := "local:100/vm-100-disk-0.qcow2"
	if strings.Contains(n.conf(100), "scsi0: other:") {
		disk = "other:100/vm-100-disk-0.qcow2"
	}
	n.reads(disk, "one")
	n.until("peace", func() bool { return n.Said(100).State == "applied" })
	for _, s := range []string{"local", "other"} {
		all, err := n.Catalog.List(n.Context(), s, "images", 0)
		n.must(err)
		for _, i := range all {
			named, err := job.Job{Place: n.Place}.Named(n.Context(), s+":"+i.Name)
			n.must(err)
			if !named {
				n.Errorf("%s: nobody names %s:%s; configuration:\n%s", verb, s, i.Name, n.conf(100))
			}
		}
	}
	if conf := n.conf(101); strings.Contains(conf, "lock:") {
		n.Errorf("the clone is half done:\n%s", conf)
	}
	n.do(Snapshot, 100, "snapname", "again", "vmstate", "0")
}
