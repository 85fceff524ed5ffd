package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/lrm"
	"etcpve/agents/ha/schedule"
	"etcpve/agents/host"
	"etcpve/agents/sample"
)

// plant writes files of a tree.
func plant(t *testing.T, all map[string]string) files.Tree {
	t.Helper()
	tree := files.Tree{Root: t.TempDir()}
	for _, dir := range []string{"priv/lock", "power", "ha", "nodes/n1/qemu-server", "nodes/n2/qemu-server"} {
		if err := os.MkdirAll(filepath.Join(tree.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range all {
		if err := tree.Write(name, text); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func storeOf(t *testing.T, tree files.Tree) crmStore {
	c := clock{time.Now(), 1}
	return crmStore{
		cluster: cluster{c, tree, "n2"}, ctx: t.Context(), locks: newLocks(tree.Root, c),
		log: func(ha.Level, string) {}, tell: func(crm.Outcome) {}, noted: new(notes),
	}
}

func read(t *testing.T, tree files.Tree, name string) string {
	t.Helper()
	text, err := tree.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLockBelongsToWhoMadeIt(t *testing.T) {
	tree := plant(t, nil)
	a, b := newLocks(tree.Root, clock{speed: 1}), newLocks(tree.Root, clock{speed: 1})
	steps := []struct {
		who  *locks
		want ha.Grip
	}{{a, ha.Taken}, {a, ha.Renewed}, {b, ha.Refused}, {a, ha.Renewed}}
	for i, s := range steps {
		if got := s.who.Try("x"); got != s.want {
			t.Errorf("step %d: %v, want %v", i, got, s.want)
		}
	}
	if b.Release("x") {
		t.Error("released another's lock")
	}
	if !a.Release("x") || b.Try("x") != ha.Taken {
		t.Error("a released lock is not free")
	}
}

func TestLockThatWasTakenFromUsIsNotRenewed(t *testing.T) {
	tree := plant(t, nil)
	path := filepath.Join(tree.Root, "priv/lock/x")
	l := newLocks(tree.Root, clock{speed: 1})
	if l.Try("x") != ha.Taken {
		t.Fatal("not taken")
	}
	// Another directory of that name, made while the first was still there, so
	// that it cannot have the first one's inode.
	if err := errors.Join(os.Mkdir(path+"2", 0o700), os.Remove(path), os.Rename(path+"2", path)); err != nil {
		t.Fatal(err)
	}
	if l.Try("x") != ha.Refused || l.Release("x") {
		t.Error("another's lock taken for our own")
	}
}

func TestLockIsNotTrustedUntilItsEnd(t *testing.T) {
	tree := plant(t, nil)
	l := newLocks(tree.Root, clock{speed: 1})
	l.Try("x")
	h := l.held["x"]
	h.asked = time.Now().Add(-l.life)
	l.held["x"] = h
	if got := l.Try("x"); got != ha.Refused {
		t.Errorf("%v", got)
	}
}

func TestStealMovesOneFileAndStopsTheGuestBefore(t *testing.T) {
	tree := plant(t, map[string]string{"nodes/n1/qemu-server/100.conf": "# note\nlock: backup\nmemory: 64\n", "power/100": "running\n"})
	s := storeOf(t, tree)
	for range 2 { // a master that died in between repeats it
		if err := s.change(crm.Steal{SID: "vm:100", From: "n1", To: "n2", Unlock: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, tree, "nodes/n2/qemu-server/100.conf"); got != "# note\nmemory: 64\n" {
		t.Errorf("%q", got)
	}
	if read(t, tree, "nodes/n1/qemu-server/100.conf") != "" || read(t, tree, "power/100") != "stopped\n" {
		t.Error("old configuration or old power left")
	}
}

func TestChangesOfFiles(t *testing.T) {
	tree := plant(t, map[string]string{
		files.Resources: "vm: 100\n\tgroup old\n\tstate started\n\n", files.Groups: "group: old\n\tnodes n1\n",
		"nodes/n1/qemu-server/100.conf": "memory: 64\n",
	})
	s := storeOf(t, tree)
	for _, change := range []crm.Change{
		crm.SetRequest{SID: "vm:100", Request: ha.WantStopped},
		crm.ConvertGroups{Rules: "node-affinity: old\n\tnodes n1\n\tresources vm:100\n", Failback: map[string]bool{"vm:100": false}},
	} {
		if err := s.change(change); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, tree, files.Resources); got != "vm: 100\n\tstate stopped\n\tfailback 0\n\n" {
		t.Errorf("%q", got)
	}
	if read(t, tree, files.Groups) != "" || !strings.Contains(read(t, tree, files.Rules), "nodes n1") {
		t.Error("groups not converted")
	}
}

func TestViewReadsTheClusterAndItsFigures(t *testing.T) {
	tree := plant(t, map[string]string{
		".members":                      `{"nodename":"n2","cluster":{"quorate":1},"nodelist":{"n1":{"online":0},"n2":{"online":1}}}`,
		".status/nodes/n2/lrm_status":   "state: applied\ncores: 4\nmemory: 1024\n",
		"nodes/n1/qemu-server/100.conf": "lock: migrate\ncores: 2\nsockets: 2\nmemory: 64\n",
		"nodes/n2/qemu-server/101.conf": "cores: 4\nvcpus: 3\nmemory: 64\n",
		"nodes/n2/qemu-server/102.conf": "memory: 64\n",
		"datacenter.cfg":                "crs: ha=dynamic\n",
		files.Resources:                 "vm: 100\n\tstate started\n\nvm: 101\n\nvm: 102\n",
		sample.File: sample.Guest{VMID: 101, Status: "running", Time: time.Now(), CPUs: sample.Count(3), CPU: sample.Share(0.25), MemoryUsed: sample.Count(5000)}.Line() +
			sample.Guest{VMID: 102, Status: "running", Time: time.Now().Add(-2 * freshness), CPUs: sample.Count(1), CPU: sample.Share(0.5), MemoryUsed: sample.Count(1)}.Line() +
			sample.Guest{VMID: 100, Status: "stopped", Time: time.Now(), CPUs: sample.Count(4)}.Line(),
	})
	s := storeOf(t, tree)
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	if v.Members["n1"].Connected || !v.Members["n2"].Connected || v.Members["n2"].Cores != 4 || !s.Quorate() || !s.Consistent() {
		t.Errorf("%+v", v.Members)
	}
	for sid, want := range map[string]schedule.Service{
		"vm:100": {MaxCPU: 4, MaxMem: 64 << 20, CPU: 4, Mem: 64 << 20, On: "n1"}, // nothing measured
		"vm:101": {MaxCPU: 3, MaxMem: 64 << 20, CPU: 0.75, Mem: 5000, On: "n2"},
		"vm:102": {MaxCPU: 1, MaxMem: 64 << 20, CPU: 1, Mem: 64 << 20, On: "n2"}, // measured too long ago
	} {
		if use := v.Services[sid]; use != want {
			t.Errorf("%s: %+v, want %+v", sid, use, want)
		}
	}
	if lock := s.GuestLock("vm:100"); lock != "migrate" {
		t.Errorf("lock %q", lock)
	}
}

func TestIdleLRMWritesOnceAMinute(t *testing.T) {
	tree := plant(t, nil)
	s := &lrmStore{cluster: cluster{clock{time.Now(), 1}, tree, "n1"}}
	publish := func(state ha.LRMState, age time.Duration) (written bool) {
		t.Helper()
		s.at = s.at.Add(-age)
		before := s.at
		if err := s.Publish(ha.LRMStatus{State: state, Mode: ha.ModeActive}); err != nil {
			t.Fatal(err)
		}
		return s.at != before
	}
	for i, c := range []struct {
		state ha.LRMState
		age   time.Duration
		want  bool
	}{{ha.LRMWait, 0, true}, {ha.LRMWait, 0, false}, {ha.LRMWait, idlePublish, true}, {ha.LRMActive, 0, true}, {ha.LRMActive, 0, true}} {
		if got := publish(c.state, c.age); got != c.want {
			t.Errorf("step %d: written is %t", i, got)
		}
	}
}

// answers is a system whose only command prints this.
type answers struct {
	out string
	err error
}

func (a answers) Run(context.Context, host.Command) ([]byte, error) { return []byte(a.out), a.err }

func TestReasonToLeave(t *testing.T) {
	for out, want := range map[string]lrm.Leave{
		"":                                    lrm.Restart,
		"No jobs running.\n":                  lrm.Restart,
		"12 etcpve.service restart waiting\n": lrm.Restart,
		"12 reboot.target start waiting\n13 shutdown.target start waiting\n": lrm.Reboot,
		"9 poweroff.target start waiting\n8 shutdown.target start waiting\n": lrm.Shutdown,
		"9 reboot.target stop waiting\n":                                     lrm.Restart,
	} {
		a := New(Options{RunDir: t.TempDir()})
		if got := a.reason(t.Context(), answers{out: out}); got != want {
			t.Errorf("%q: %s, want %s", out, got, want)
		}
	}
	a := New(Options{RunDir: t.TempDir()})
	if err := os.WriteFile(filepath.Join(a.RunDir, leaveFile), []byte("reboot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := a.reason(t.Context(), answers{err: errors.New("no systemd")}); got != lrm.Reboot {
		t.Errorf("%s", got)
	}
}

// TestAgentLeadsAndLeaves runs the agent of a lone node, with clocks that run fast.
func TestAgentLeadsAndLeaves(t *testing.T) {
	tree := plant(t, map[string]string{
		".members": `{"nodename":"n1","version":1}`, files.Resources: "vm: 100\n\tstate stopped\n",
		"nodes/n1/qemu-server/100.conf": "memory: 64\n",
	})
	dir := t.TempDir()
	a := New(Options{Tree: tree.Root, Node: "n1", RunDir: dir, Guests: dir, Device: filepath.Join(dir, "none"), Speed: 100, Log: slog.New(slog.DiscardHandler)})
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	deadline := time.Now().Add(2 * time.Minute)
	state := func() string {
		status, _ := tree.Status() // half written files do not exist
		if s := status.Services["vm:100"]; s != nil {
			return fmt.Sprint(status.Master, " ", s.State)
		}
		return ""
	}
	for state() != "n1 stopped" {
		if time.Now().After(deadline) {
			t.Fatalf("state is %q", state())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadDir(filepath.Join(tree.Root, "priv/lock"))
	if err != nil || slices.ContainsFunc(locks, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "ha_") }) {
		t.Errorf("locks left: %v, %v", locks, err)
	}
}

// TestReasonsFit explains more services than there is room for.
func TestReasonsFit(t *testing.T) {
	verdict := func(id int, free bool) crm.Verdict {
		return crm.Verdict{SID: fmt.Sprint("vm:", id), State: ha.Started, Node: "n1", Free: free,
			Rejected: []crm.Rejection{{Node: "n2", Reason: "so"}, {Node: "n3", Reason: "so"}}}
	}
	all := []crm.Verdict{verdict(100, true), verdict(101, false), verdict(102, true)}
	for room, want := range map[int]string{
		1000: "vm:100=started on n1; not n2, n3: so vm:101=started on n1; not n2, n3: so vm:102=started on n1; not n2, n3: so",
		90:   "vm:100=started on n1 vm:101=started on n1; not n2, n3: so vm:102=started on n1",
		40:   "vm:100=started on n1 more=2 services are left out here",
	} {
		var got []string
		for _, l := range lines(all, room) {
			got = append(got, l.Key+"="+l.Value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%d: got  %q\nwant %q", room, got, want)
		}
	}
}

// TestCommandsAreCarriedOutOnce holds the lock that removing them needs.
func TestCommandsAreCarriedOutOnce(t *testing.T) {
	tree := plant(t, map[string]string{
		".members": `{"nodename":"n2"}`, files.Commands: "arm-ha\nstop vm:100 0\n", "priv/lock/domain-ha/held": "",
	})
	s := storeOf(t, tree)
	view := func() []string {
		t.Helper()
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		return v.Commands
	}
	commit := func(ctx context.Context, commands int) {
		t.Helper()
		s.ctx = ctx
		if err := s.Commit(crm.Outcome{Commands: commands}); err != nil {
			t.Fatal(err)
		}
	}
	if got := view(); !slices.Equal(got, []string{"arm-ha", "stop vm:100 0"}) {
		t.Fatalf("%q", got)
	}
	limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	commit(limited, 2)
	<-limited.Done() // it was the lock that it waited for
	if err := tree.Write(files.Commands, read(t, tree, files.Commands)+"migrate vm:100 n1\n"); err != nil {
		t.Fatal(err)
	}
	if got := view(); !slices.Equal(got, []string{"migrate vm:100 n1"}) {
		t.Errorf("%q", got)
	}
	if err := os.RemoveAll(filepath.Join(tree.Root, "priv/lock/domain-ha")); err != nil {
		t.Fatal(err)
	}
	commit(t.Context(), 1)
	if got := read(t, tree, files.Commands); got != "" {
		t.Errorf("still queued: %q", got)
	}
	if err := tree.Write(files.Commands, "arm-ha\n"); err != nil {
		t.Fatal(err)
	}
	if got := view(); !slices.Equal(got, []string{"arm-ha"}) {
		t.Errorf("%q", got)
	}
}
