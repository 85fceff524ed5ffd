package qemu

import (
	"slices"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
)

func TestPlanFollowsThePowerFile(t *testing.T) {
	conf := func(power Power, lines cmdline.Config) Desired {
		return Desired{VMID: 100, Text: []byte{}, Config: lines, Power: power, Mark: "m"}
	}
	at := time.Unix(1000, 0)
	up := func(status string) State {
		return State{Known: true, Status: status, Now: at, Record: record.Record{Process: host.Process{PID: 1}, Begun: true}}
	}
	asked := func(status string, ago time.Duration) State {
		s := up(status)
		s.Record.Stopping, s.Record.Pressed = at.Add(-ago), at.Add(-min(ago, 9*time.Second))
		return s
	}
	gone := State{Known: true, Now: at, Record: record.Record{Process: host.Process{PID: 1}}}
	crashed := gone
	crashed.Record.Crash, crashed.Record.Mark = "gone", "m"
	ended := gone
	ended.Ended = "host-qmp-quit"
	silent := gone
	silent.Silent = "no greeting"

	for _, c := range []struct {
		name    string
		desired Desired
		state   State
		want    []string
		waits   int
	}{
		{"off and wanted off", conf(Stopped, nil), State{}, nil, 0},
		{"off and nothing said", conf(Unsaid, nil), State{}, nil, 0},
		{"start", conf(Running, nil), State{}, []string{"start"}, 0},
		{"start paused", conf(Paused, nil), State{}, []string{"start"}, 0},
		{"locked", conf(Running, cmdline.Config{"lock": "backup"}), State{}, nil, 1},
		{"content", conf(Running, nil), up("running"), nil, 0},
		{"on and nothing said", conf(Unsaid, nil), up("running"), nil, 0},
		{"on without configuration", Desired{VMID: 100}, up("running"), nil, 0},
		{"pause", conf(Paused, nil), up("running"), []string{"pause"}, 0},
		{"resume", conf(Running, nil), up("paused"), []string{"resume"}, 0},
		{"interrupted start", conf(Running, nil), up("prelaunch"), []string{"resume"}, 0},
		{"frozen start", conf(Running, cmdline.Config{"freeze": "1"}), up("prelaunch"), nil, 1},
		{"switch off", conf(Stopped, nil), up("running"), []string{"shut down"}, 0},
		{"switch off while paused", conf(Stopped, nil), up("paused"), []string{"resume: to switch off", "shut down"}, 0},
		{"give it time", conf(Stopped, nil), asked("running", 179*time.Second), nil, 1},
		{"ask again", conf(Stopped, nil), State{Known: true, Status: "running", Now: at, Record: record.Record{Stopping: at.Add(-30 * time.Second), Pressed: at.Add(-10 * time.Second)}},
			[]string{"shut down: once more"}, 0},
		{"out of time", conf(Stopped, nil), asked("running", 180*time.Second), []string{"kill: it did not switch off within 3m0s"}, 0},
		{"own time-out", conf(Stopped, cmdline.Config{"startup": "order=1,down=5"}), asked("running", 5*time.Second), []string{"kill: it did not switch off within 5s"}, 1},
		{"without ACPI", conf(Stopped, cmdline.Config{"acpi": "0"}), up("running"), []string{"kill: the guest has no ACPI"}, 0},
		{"never begun", conf(Stopped, nil), up("prelaunch"), []string{"kill: it cannot be asked to switch off"}, 0},
		{"off by itself", conf(Running, nil), up("shutdown"), []string{"write power: stopped: the guest has switched itself off", "clean up"}, 0},
		{"off as asked", conf(Stopped, nil), asked("shutdown", time.Second), []string{"clean up"}, 0},
		{"off as asked, wanted again", conf(Running, nil), asked("shutdown", time.Second), []string{"clean up"}, 0},
		{"quit by a tool", conf(Running, nil), ended, []string{"write power: stopped: the guest has switched itself off", "clean up"}, 0},
		{"crash", conf(Running, nil), gone, []string{"record crash: QEMU is gone"}, 0},
		{"never came up", conf(Running, nil), State{Known: true, Now: at}, []string{"start"}, 0},
		{"crash while nobody cared", conf(Stopped, nil), gone, []string{"clean up"}, 0},
		{"crashed", conf(Running, nil), crashed, nil, 1},
		{"crashed, written since", Desired{VMID: 100, Text: []byte{}, Power: Running, Mark: "n"}, crashed, []string{"start"}, 0},
		{"crashed, wanted off", conf(Stopped, nil), crashed, []string{"clean up"}, 0},
		{"silent", conf(Running, nil), silent, nil, 0},
		{"silent, wanted off", conf(Stopped, nil), silent, []string{"kill: it cannot be asked to switch off"}, 0},
	} {
		actions, waits := plan(c.desired, c.state)
		var got []string
		for _, a := range actions {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if len(got) == 0 && len(waits) != c.waits {
			t.Errorf("%s: %v waits", c.name, waits)
		}
	}
}
