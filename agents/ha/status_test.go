package ha

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestManagerStatusKeepsItsForm(t *testing.T) {
	text := `{"master_node":"n1","timestamp":1700000000,"node_status":{"n1":"online","n2":"maintenance"},` +
		`"service_status":{"vm:1":{"state":"started","node":"n1","uid":"abc","running":1,"cmd":["migrate","n2"],"failed_nodes":["n3"],"maintenance_node":"n2"},` +
		`"vm:2":{"state":"request_stop","node":"n2","uid":"def","timeout":0}},` +
		`"node_request":{"n2":{"maintenance":1}},"disarm":{"mode":"freeze","state":"disarming"}}`
	var m ManagerStatus
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	c := m.Clone()
	m.Services["vm:1"].FailedNodes[0] = "n9"
	m.Disarm.State = Disarmed
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func TestPerlsTruthIsUnderstood(t *testing.T) {
	for text, want := range map[string]Flag{`1`: true, `"1"`: true, `true`: true, `0`: false, `"0"`: false, `""`: false, `false`: false, `null`: false} {
		got := !want
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	var c Command
	if err := json.Unmarshal([]byte(`["stop",5]`), &c); err != nil || c != (Command{"stop", "5"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if err := json.Unmarshal([]byte(`["stop"]`), &c); err == nil {
		t.Error("a command without argument is read")
	}
}

func TestActiveServicesNeedTheLRM(t *testing.T) {
	m := ManagerStatus{Services: map[string]*Service{
		"a": {State: Started, Node: "n1"},
		"b": {State: Migrate, Node: "n2", Target: "n1"},
		"c": {State: Stopped, Node: "n1"},
		"d": {State: RequestStop, Node: "n1"},
		"e": {State: Fence, Node: "n3"},
	}}
	for node, want := range map[string]int{"n1": 3, "n2": 1, "n3": 1, "n4": 0} {
		if got := m.ActiveOn(node); got != want {
			t.Errorf("%s: %d, want %d", node, got, want)
		}
	}
	if !m.FenceRequested("n3") || m.FenceRequested("n1") {
		t.Error("fence is requested for the wrong node")
	}
}

// fakeDog records what happens to a watchdog.
type fakeDog struct {
	log  []string
	fail error
}

func (d *fakeDog) Open() error { d.log = append(d.log, "open"); return d.fail }
func (d *fakeDog) Update()     { d.log = append(d.log, "update") }
func (d *fakeDog) Close()      { d.log = append(d.log, "close") }

type fakeLocks struct{ grip Grip }

func (l fakeLocks) Try(string) Grip     { return l.grip }
func (l fakeLocks) Release(string) bool { return true }

func TestAGuardUpdatesItsWatchdogOnlyWhileItHasTheLock(t *testing.T) {
	var lines []string
	dog, locks := &fakeDog{fail: errors.New("no device")}, &fakeLocks{Taken}
	g := NewGuard("l", locks, dog, func(_ Level, text string) { lines = append(lines, text) })
	if g.Hold() {
		t.Error("holds without a watchdog")
	}
	dog.fail = nil
	locks.grip = Renewed
	for range 2 {
		if !g.Hold() {
			t.Error("does not hold")
		}
	}
	locks.grip = Refused
	if g.Hold() {
		t.Error("holds without the lock")
	}
	g.Unwatch()
	g.Unwatch()
	want := []string{"open", "open", "update", "close"}
	if len(dog.log) != len(want) || dog.log[2] != "update" || dog.log[3] != "close" {
		t.Errorf("watchdog: %v", dog.log)
	}
	if len(lines) != 2 || lines[0] != "got lock 'l'" || lines[1] != "unable to open watchdog: no device" {
		t.Errorf("%q", lines)
	}
}
