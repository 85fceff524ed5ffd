package crm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/ha"
	"etcpve/agents/ha/schedule"
)

// world is a cluster of which every LRM does its jobs at once.
type world struct {
	View
	memory    Memory
	outcome   Outcome
	fenceable map[string]bool
	locked    map[string]string
	uids      int
}

func (w *world) AgentLock(node string) ha.Grip {
	if w.fenceable[node] {
		return ha.Renewed
	}
	return ha.Refused
}

func (w *world) GuestLock(sid string) string { return w.locked[sid] }

func (w *world) NewUID() string {
	w.uids++
	return fmt.Sprint("uid", w.uids)
}

// newWorld has connected nodes called n1, n2 and so on, n1 being the master.
func newWorld(nodes int, settings ha.Settings) *world {
	w := &world{View: View{
		Node:      "n1",
		Now:       1000,
		Members:   map[string]Member{},
		LRMs:      map[string]ha.LRMStatus{},
		Resources: map[string]ha.Resource{},
		Services:  map[string]schedule.Service{},
		Settings:  settings,
	}, fenceable: map[string]bool{}, locked: map[string]string{}}
	for i := range nodes {
		w.Members[fmt.Sprint("n", i+1)] = Member{Connected: true, Version: "9.1.2", Node: schedule.Node{Cores: 1024, Mem: 4 << 40}}
	}
	w.memory = Succeed(w.Status, settings, func(ha.Level, string) {})
	return w
}

func (w *world) add(sid, node string, change func(*ha.Resource)) {
	r := ha.DefaultResource
	r.Node = node
	if change != nil {
		change(&r)
	}
	w.Resources[sid] = r
}

// round runs a round and returns what it logs. Then the LRMs do their jobs.
func (w *world) round() (lines []string) {
	w.memory, w.outcome = w.memory.Round(w.View, w)
	w.Now += 10
	w.Commands = w.Commands[w.outcome.Commands:]
	for _, l := range w.outcome.Lines {
		lines = append(lines, l.Text)
	}
	for node := range w.Members {
		w.LRMs[node] = ha.LRMStatus{State: ha.LRMActive, Mode: ha.ModeActive, Results: map[string]ha.Result{}}
	}
	for sid, s := range w.outcome.Status.Services {
		w.LRMs[s.Node].Results[s.UID] = ha.Result{SID: sid, State: s.State}
		r := w.Resources[sid]
		r.Node = s.Node
		if s.State.Moving() {
			r.Node = s.Target
		}
		w.Resources[sid] = r
	}
	return lines
}

func (w *world) rounds(n int) {
	for range n {
		w.round()
	}
}

func (w *world) states() string {
	var all []string
	for _, sid := range w.outcome.Status.SIDs() {
		s := w.outcome.Status.Services[sid]
		all = append(all, fmt.Sprintf("%s %s %s", sid, s.State, s.Node))
	}
	return strings.Join(all, ", ")
}

func (w *world) disconnect(node string) {
	m := w.Members[node]
	m.Connected = false
	w.Members[node] = m
}

func TestRoundDoesNotChangeWhatItWasGiven(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.add("vm:1", "n1", nil)
	w.rounds(2)
	before := fmt.Sprint(w.memory.status.Services["vm:1"], w.memory.status.Nodes, w.Resources)
	w.Commands = []string{"migrate vm:1 n2", "enable-node-maintenance n3"}
	_, out := w.memory.Round(w.View, w)
	if after := fmt.Sprint(w.memory.status.Services["vm:1"], w.memory.status.Nodes, w.Resources); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	if out.Commands != 2 || out.Status.Services["vm:1"].State != ha.Migrate {
		t.Errorf("outcome: %+v", out)
	}
}

func TestServicesAreRecoveredOnlyAfterFencing(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.add("vm:1", "n3", nil)
	w.locked["vm:1"] = "backup"
	w.rounds(3)
	w.disconnect("n3")
	for range 20 {
		w.round()
		if got := w.states(); strings.Contains(got, "recovery") || strings.Contains(got, "n1") || strings.Contains(got, "n2") {
			t.Fatalf("not fenced yet, but: %s", got)
		}
	}
	if got := w.states(); got != "vm:1 fence n3" {
		t.Fatal(got)
	}
	w.fenceable["n3"] = true
	w.round()
	if got := w.states(); got != "vm:1 started n1" {
		t.Error(got)
	}
	want := Steal{SID: "vm:1", From: "n3", To: "n1", Unlock: true}
	if len(w.outcome.Changes) != 1 || w.outcome.Changes[0] != Change(want) {
		t.Errorf("changes: %v", w.outcome.Changes)
	}
}

// TestOnlyLocksThatDiedWithTheNodeAreRemoved: a VM that is half made, or whose lock
// nobody knows, is recovered as it is.
func TestOnlyLocksThatDiedWithTheNodeAreRemoved(t *testing.T) {
	for lock, removed := range map[string]bool{
		"backup": true, "mounted": true, "migrate": true, "clone": true, "rollback": true, "snapshot": true, "snapshot-delete": true, "suspending": true, "suspended": true,
		"": false, "create": false, "destroyed": false, "disk": false, "fstrim": false, "whatever": false,
	} {
		w := newWorld(3, ha.DefaultSettings)
		w.add("vm:1", "n3", nil)
		w.locked["vm:1"] = lock
		w.rounds(3)
		w.disconnect("n3")
		w.fenceable["n3"] = true
		var said []string
		for range 20 {
			if said = append(said, w.round()...); w.states() == "vm:1 started n1" {
				break
			}
		}
		want := Steal{SID: "vm:1", From: "n3", To: "n1", Unlock: removed}
		if len(w.outcome.Changes) != 1 || w.outcome.Changes[0] != Change(want) {
			t.Errorf("%q: changes: %v", lock, w.outcome.Changes)
		}
		line := "removed leftover lock '" + lock + "' from recovered service 'vm:1' to allow its start."
		if slices.Contains(said, line) != removed {
			t.Errorf("%q: %q", lock, said)
		}
	}
}

func TestAMasterThatIsOfflineWritesNothing(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.add("vm:1", "n1", nil)
	w.rounds(2)
	w.disconnect("n1")
	w.Commands = []string{"arm-ha"}
	if got := w.round(); !slices.Contains(got, "master seems offline") || !w.outcome.Offline || w.outcome.Commands != 0 {
		t.Errorf("%q, %+v", got, w.outcome)
	}
}

func TestANodeThatLeftTheClusterIsGone(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.rounds(1)
	delete(w.Members, "n3")
	w.rounds(2)
	if got := w.outcome.Status.Nodes["n3"]; got != ha.Gone {
		t.Errorf("state %s", got)
	}
	if got := w.round(); len(got) != 0 {
		t.Errorf("and again: %q", got)
	}
}

func TestCommandsAnswer(t *testing.T) {
	for command, want := range map[string]string{
		"migrate vm:1 n2":             "got crm command: migrate vm:1 n2",
		"relocate vm:9 n2":            "crm command error - no such service: relocate vm:9 n2",
		"migrate vm:1 n9":             "crm command error - node not online: migrate vm:1 n9",
		"migrate vm:1 n1":             "ignore crm command - service already on target node: migrate vm:1 n1",
		"stop vm:1 0":                 "got crm command: stop vm:1 0",
		"stop vm:9 3":                 "crm command error - no such service: stop vm:9 3",
		"stop vm:1 soon":              "unable to parse crm command: stop vm:1 soon",
		"disable-node-maintenance n2": "clearing maintenance of node n2 requested, but it's in state online",
		"enable-node-maintenance n9":  "crm command error - node not online: enable-node-maintenance n9",
		"disarm-ha melt":              "unable to parse crm command: disarm-ha melt",
		"arm-ha":                      "ignoring arm-ha command - HA stack is not disarmed",
		"arm-ha now":                  "unable to parse crm command: arm-ha now",
		"sing":                        "unable to parse crm command: sing",
	} {
		w := newWorld(3, ha.DefaultSettings)
		w.add("vm:1", "n1", nil)
		w.rounds(2)
		w.Commands = []string{command}
		if got := w.round(); len(got) == 0 || got[0] != want {
			t.Errorf("%s\n got %q\nwant %q", command, got, want)
		}
		if len(w.Commands) != 0 {
			t.Errorf("%s: still queued", command)
		}
	}
}

func TestBrokenRulesKeepTheOldOnes(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.Rules = "node-affinity: a\n\tresources vm:1\n\tnodes n2\n\tstrict 1\n"
	w.add("vm:1", "n1", nil)
	w.rounds(3)
	if got := w.states(); got != "vm:1 started n2" {
		t.Fatal(got)
	}
	w.Rules = "node-affinity: a\n\tresources vm:1\n\tnodes n3:high\n"
	want := "keeping the rules known before - ha/rules.cfg: rule 'a': line 3: nodes: 'high' is not a priority"
	if got := w.round(); !slices.Contains(got, want) {
		t.Errorf("%q", got)
	}
	w.rounds(2)
	if got := w.states(); got != "vm:1 started n2" {
		t.Error(got)
	}
}

// TestNewMasterLeavesOutABrokenRule begins with a broken rule beside a good one.
func TestNewMasterLeavesOutABrokenRule(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.Rules = "node-affinity: bad\n\tresources vm:1\n\tnodes n3:high\n\nnode-affinity: good\n\tresources vm:1\n\tnodes n2\n"
	w.add("vm:1", "n1", nil)
	want := "ignoring a rule - ha/rules.cfg: rule 'bad': line 3: nodes: 'high' is not a priority"
	if got := w.round(); !slices.Contains(got, want) {
		t.Errorf("%q", got)
	}
	w.rounds(3)
	if got := w.states(); got != "vm:1 started n2" {
		t.Error(got)
	}
}

// TestGroupTakesServicesThatComeLater adds a service to a group while an old node
// puts off the conversion of groups.
func TestGroupTakesServicesThatComeLater(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.Members["n3"] = Member{Connected: true, Version: "8.4.0"}
	w.Groups = "group: g\n\tnodes n2\n\trestricted 1\n"
	w.add("vm:1", "n1", nil)
	w.rounds(3)
	w.add("vm:2", "n1", func(r *ha.Resource) { r.Group = "g" })
	w.rounds(4)
	if got := w.states(); got != "vm:1 started n1, vm:2 started n2" {
		t.Error(got)
	}
}

// TestRecoveryGoesOnWhereAMasterDied begins a recovery of which the configuration
// has been moved, but not the status written.
func TestRecoveryGoesOnWhereAMasterDied(t *testing.T) {
	w := newWorld(3, ha.DefaultSettings)
	w.add("vm:1", "n3", nil)
	w.add("vm:2", "n3", nil)
	w.rounds(3)
	w.disconnect("n3")
	w.fenceable["n3"] = true
	w.rounds(5)
	if _, lost := w.memory.Round(w.View, w); len(lost.Changes) != 2 {
		t.Fatalf("%v", lost.Changes)
	}
	w.add("vm:1", "n2", nil)
	w.round()
	want := []Change{Steal{"vm:1", "n2", "n1", false}, Steal{"vm:2", "n3", "n2", false}}
	if got := w.outcome.Changes; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestVersionsThatKnowRules(t *testing.T) {
	for version, want := range map[string]bool{
		"9.0.0": true, "9.0.0~16": true, "9.0.0~15": false, "9.0.1~1": true, "8.4.99": false, "8.4-1": false,
		"9.0-0": true, "10.0.0": true, "": false, "new": false,
	} {
		if got := knowsRules(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// alone is a healthy cluster of one, with all its locks and watchdogs.
type alone struct{ closed int }

func (*alone) Quorate() bool       { return true }
func (*alone) Consistent() bool    { return true }
func (*alone) Try(string) ha.Grip  { return ha.Renewed }
func (*alone) Release(string) bool { return true }
func (*alone) Open() error         { return nil }
func (*alone) Update()             {}
func (a *alone) Close()            { a.closed++ }

func TestAFailedCommitIsToldAndTriedAgain(t *testing.T) {
	var log []string
	record := func(_ ha.Level, text string) { log = append(log, text) }
	a := &alone{}
	w := newWorld(1, ha.DefaultSettings)
	w.Resources["vm:1"] = ha.DefaultResource
	store := &flaky{view: w.View, err: errors.New("disk full")}
	c := New("n1", a, store, w, ha.NewGuard(ha.ManagerLock, a, a, record), record)
	c.Step()
	store.err = nil
	c.Step()
	added := 0
	for _, line := range log {
		if strings.HasPrefix(line, "adding new service") {
			added++
		}
	}
	if !slices.Contains(log, "got unexpected error - disk full") || added != 2 || store.commits != 2 {
		t.Errorf("%d commits, %d times added:\n%s", store.commits, added, strings.Join(log, "\n"))
	}
	c.Stop()
	if !c.Step() || a.closed != 1 {
		t.Errorf("state %s, watchdog closed %d times", c.State(), a.closed)
	}
}

// flaky is a store whose commits may fail.
type flaky struct {
	view    View
	err     error
	commits int
}

func (f *flaky) View() (View, error) { return f.view, nil }

func (f *flaky) Commit(Outcome) error {
	f.commits++
	return f.err
}

// BenchmarkRound measures a master's round with 5,000 services on 32 nodes: at
// rest, and when a node with 156 of them is recovered.
func BenchmarkRound(b *testing.B) {
	for _, mode := range []schedule.Mode{schedule.Basic, schedule.Static, schedule.Dynamic} {
		settings := ha.DefaultSettings
		settings.Scheduler = string(mode)
		w := newWorld(32, settings)
		for i := range 5000 {
			sid := fmt.Sprint("vm:", 1000+i)
			w.add(sid, fmt.Sprint("n", i%32+1), nil)
			w.Services[sid] = schedule.Service{MaxCPU: 4, MaxMem: 4 << 30, CPU: 2, Mem: 2 << 30, On: w.Resources[sid].Node}
		}
		w.rounds(3)
		b.Run(string(mode)+"/rest", func(b *testing.B) {
			for b.Loop() {
				if got := w.round(); len(got) > 0 {
					b.Fatalf("not at rest: %s", got[0])
				}
			}
		})
		w.disconnect("n32")
		w.rounds(10)
		w.fenceable["n32"] = true
		b.Run(string(mode)+"/recovery", func(b *testing.B) {
			for b.Loop() {
				if _, out := w.memory.Round(w.View, w); len(out.Changes) != 156 {
					b.Fatalf("%d services recovered", len(out.Changes))
				}
			}
		})
	}
}

// BenchmarkBalance looks for the best of 155,000 moves, and says of all services
// why they are where they are.
func BenchmarkBalance(b *testing.B) {
	for _, method := range []string{"bruteforce", "topsis"} {
		settings := ha.DefaultSettings
		settings.Scheduler = string(schedule.Static)
		settings.Rebalance = ha.Rebalance{Enabled: true, Threshold: 0.01, Method: method, Margin: 2}
		w := newWorld(32, settings)
		for i := range 5000 {
			sid := fmt.Sprint("vm:", 1000+i)
			w.add(sid, fmt.Sprint("n", i%31+1), nil)
			w.Services[sid] = schedule.Service{MaxCPU: 4, MaxMem: int64(1+i%8) << 30}
		}
		w.rounds(3)
		b.Run(method, func(b *testing.B) {
			for b.Loop() {
				if got := w.round(); len(got) > 0 {
					b.Fatalf("not at rest: %s", got[0])
				}
			}
		})
		b.Run(method+"/explain", func(b *testing.B) {
			for b.Loop() {
				if got := w.outcome.Explain(); len(got) != 5000 {
					b.Fatal(len(got))
				}
			}
		})
	}
}
