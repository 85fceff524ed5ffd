package files

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/agents/ha"
	"etcpve/cfs/format/section"
	"etcpve/cfs/layout"
)

func treeOf(t *testing.T, content map[string]string) Tree {
	t.Helper()
	tree := Tree{t.TempDir()}
	for name, text := range content {
		if err := tree.Write(name, text); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestResourcesAreThoseWhoseGuestExists(t *testing.T) {
	tree := treeOf(t, map[string]string{
		"nodes/n1/qemu-server/100.conf": "", "nodes/n2/lxc/101.conf": "", "nodes/n2/lxc/notes.txt": "",
		Resources: "vm: 100\n\tstate disabled\n\tfailback 0\n\tmax_restart 5\n\nct: 101\n\tgroup g\n\nvm: 102\n\nct: 100\n",
	})
	all, err := tree.Configured()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]ha.Resource{
		"vm:100": {Node: "n1", Request: ha.WantDisabled, MaxRestart: 5, MaxRelocate: 1},
		"ct:101": {Node: "n2", Request: ha.WantStarted, Group: "g", Failback: true, MaxRestart: 1, MaxRelocate: 1},
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", all, want)
	}
	for text, want := range map[string]string{
		"vm: 100\n\tstate asleep\n":        "ha/resources.cfg: vm:100: line 2: state: unknown state 'asleep'",
		"\nvm: 100\n\tmax_restart often\n": "ha/resources.cfg: vm:100: line 3: max_restart: ",
	} {
		if err := tree.Write(Resources, text); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Configured(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSettings(t *testing.T) {
	tree := treeOf(t, nil)
	if s, err := tree.Settings(); err != nil || s != ha.DefaultSettings {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	text := "keyboard: de\nha: shutdown_policy=migrate\ncrs: ha=dynamic,ha-rebalance-on-start=1,ha-auto-rebalance=1," +
		"ha-auto-rebalance-threshold=0.5,ha-auto-rebalance-method=topsis,ha-auto-rebalance-hold-duration=7,ha-auto-rebalance-margin=0.2,new=1\n"
	if err := tree.Write("datacenter.cfg", text); err != nil {
		t.Fatal(err)
	}
	want := ha.Settings{ShutdownPolicy: "migrate", Scheduler: "dynamic", RebalanceOnStart: true,
		Rebalance: ha.Rebalance{Enabled: true, Threshold: 0.5, Method: "topsis", Hold: 7, Margin: 0.2}}
	if s, err := tree.Settings(); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	if err := tree.Write("datacenter.cfg", "crs: ha-auto-rebalance-margin=wide\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Settings(); err == nil || !strings.HasPrefix(err.Error(), "datacenter.cfg: crs: ha-auto-rebalance-margin: ") {
		t.Error(err)
	}
}

func TestNoCommandIsLost(t *testing.T) {
	tree := treeOf(t, nil)
	const writers = 8
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			if err := tree.Queue(t.Context(), fmt.Sprint("command ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	commands, err := tree.Queued()
	if err != nil || len(commands) != writers {
		t.Fatalf("%q, %v", commands, err)
	}
	if err := tree.Dequeue(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if rest, err := tree.Queued(); err != nil || !slices.Equal(rest, commands[3:]) {
		t.Errorf("%q, %v, want %q", rest, err, commands[3:])
	}
}

func TestEditRefusedChangesNothing(t *testing.T) {
	tree := treeOf(t, map[string]string{Rules: "# kept\n"})
	refuse := func(d *section.Document) error {
		if err := d.Add("node-affinity", "a"); err != nil {
			return err
		}
		return os.ErrInvalid
	}
	if err := tree.Edit(t.Context(), Rules, refuse); err == nil {
		t.Error("no error")
	}
	if text, err := tree.Read(Rules); err != nil || text != "# kept\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(tree.Root, layout.LockDir, "domain-ha")); !os.IsNotExist(err) {
		t.Errorf("the lock is still there: %v", err)
	}
}

func TestStatusFilesComeBack(t *testing.T) {
	tree := treeOf(t, map[string]string{"nodes/n1/lxc/100.conf": ""})
	if s, err := tree.Status(); err != nil || s.Master != "" {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	now := time.Now().Unix()
	if err := tree.WriteJSON(LRMStatus("n1"), ha.LRMStatus{State: ha.LRMActive, Mode: ha.ModeActive, Timestamp: now,
		Results: map[string]ha.Result{"u": {SID: "ct:100", Code: ha.WrongNode, State: ha.Started}}}); err != nil {
		t.Fatal(err)
	}
	text, err := tree.Read(LRMStatus("n1"))
	want := fmt.Sprintf(`{"state":"active","mode":"active","results":{"u":{"sid":"ct:100","exit_code":3,"state":"started"}},"timestamp":%d}`+"\n", now)
	if err != nil || text != want {
		t.Errorf("%v\n got %s\nwant %s", err, text, want)
	}
	if s, err := tree.LRM("n1"); err != nil || s.Results["u"].Code != ha.WrongNode {
		t.Errorf("%+v, %v", s, err)
	}
	if err := tree.Write(Status, "{"); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Status(); err == nil || !strings.HasPrefix(err.Error(), "ha/manager_status: ") {
		t.Error(err)
	}
}
