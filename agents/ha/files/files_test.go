package files

import (
	"errors"
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
}

// TestAGuestThatMovesIsNotGone: the list that the file system keeps decides, whatever
// directories say that are listed one after the other.
func TestAGuestThatMovesIsNotGone(t *testing.T) {
	tree := treeOf(t, map[string]string{
		Resources: "vm: 100\n\nct: 101\n\nct: 100\n", "nodes/n2/qemu-server/102.conf": "",
		".vmlist": `{"version": 2, "ids": {"100": {"node": "n1", "type": "qemu", "version": 1}, "101": {"node": "n2", "type": "lxc", "version": 2}}}`,
	})
	all, err := tree.Configured()
	if err != nil || len(all) != 2 || all["vm:100"].Node != "n1" || all["ct:101"].Node != "n2" {
		t.Errorf("%v, %v", all, err)
	}
	if err := tree.Write(".vmlist", "{"); err != nil {
		t.Fatal(err)
	}
	if all, err := tree.Configured(); err == nil {
		t.Errorf("half a list was taken for a whole one: %v", all)
	}
}

func TestMistakesLeaveTheRest(t *testing.T) {
	tree := treeOf(t, map[string]string{
		"nodes/n1/qemu-server/100.conf": "", "nodes/n1/qemu-server/101.conf": "",
		Resources: "vm: 100\n\tstate asleep\n\tmax_restart often\n\tfailback no\n\nvm: 101\n\tstate stopped\n",
		"datacenter.cfg": "crs:\ncrs: ha=lazy,ha-auto-rebalance=on,ha-auto-rebalance-margin=wide\n" +
			"ha: shutdown_policy=,\nha: shutdown_policy=freeze\n",
		LRMStatus("n1"): "{", LRMStatus("n2"): `{"timestamp": "noon"}`,
	})
	all, err := tree.Configured()
	checkMistakes(t, err,
		"ha/resources.cfg: line 2: vm:100: state: 'asleep' is not understood, the default holds",
		"ha/resources.cfg: line 3: vm:100: max_restart: 'often' is not understood, the default holds")
	want := map[string]ha.Resource{
		"vm:100": {Node: "n1", Request: ha.WantStarted, MaxRestart: 1, MaxRelocate: 1},
		"vm:101": {Node: "n1", Request: ha.WantStopped, Failback: true, MaxRestart: 1, MaxRelocate: 1},
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", all, want)
	}
	s, err := tree.Settings()
	checkMistakes(t, err,
		"datacenter.cfg: line 2: crs: ha: 'lazy' is not understood, the default holds",
		"datacenter.cfg: line 2: crs: ha-auto-rebalance-margin: 'wide' is not understood, the default holds",
		"datacenter.cfg: line 3: ha: missing key in comma-separated list property, the defaults hold")
	good := ha.DefaultSettings
	good.ShutdownPolicy, good.Rebalance.Enabled = "freeze", true
	if s != good {
		t.Errorf("%+v", s)
	}
	for _, node := range []string{"n1", "n2"} {
		l, err := tree.LRM(node)
		var m Mistakes
		if !errors.As(err, &m) || l.State != "" || l.Timestamp != 0 {
			t.Errorf("%s: %+v, %v", node, l, err)
		}
	}
}

func checkMistakes(t *testing.T, err error, want ...string) {
	t.Helper()
	var got Mistakes
	if !errors.As(err, &got) || !slices.Equal(got, want) {
		t.Errorf("mistakes %q\nwant %q", got, want)
	}
}

func TestSettings(t *testing.T) {
	tree := treeOf(t, nil)
	if s, err := tree.Settings(); err != nil || s != ha.DefaultSettings {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	text := "keyboard: de\nha: shutdown_policy=migrate\ncrs: ha=dynamic,ha-rebalance-on-start=1,ha-auto-rebalance=1," +
		"ha-auto-rebalance-threshold=50,ha-auto-rebalance-method=topsis,ha-auto-rebalance-hold-duration=7.5,ha-auto-rebalance-margin=25,new=1\n"
	if err := tree.Write("datacenter.cfg", text); err != nil {
		t.Fatal(err)
	}
	want := ha.Settings{ShutdownPolicy: "migrate", Scheduler: "dynamic", RebalanceOnStart: true,
		Rebalance: ha.Rebalance{Enabled: true, Threshold: 0.5, Method: "topsis", Hold: 7.5, Margin: 0.25}}
	if s, err := tree.Settings(); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
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
