package sim

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the logs of the scenarios in fixtures/ha anew")

const fixtures = "../../../fixtures/ha"

// TestScenarios runs the project's own scenarios.
func TestScenarios(t *testing.T) {
	entries, err := os.ReadDir(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		dir := filepath.Join(fixtures, e.Name())
		t.Run(e.Name(), func(t *testing.T) {
			if *update {
				writeLog(t, dir)
			}
			compareLog(t, dir)
		})
	}
}

func writeLog(t *testing.T, dir string) {
	t.Helper()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := Run(s, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if err := os.WriteFile(filepath.Join(dir, "log.expect"), log.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBadCommandsFailTheRun(t *testing.T) {
	for _, command := range []string{
		"power", "power node9 on", "power node1 up", "jump node1 high", "skip-round all", "skip-round crm x",
		"delay soon", "cfs node1 rw perhaps", "crm node1 dance", "pve-manager-version node1 9",
		"service vm:101", "service vm:101 sing", "service vm:1 started", "service vm:1 delete", "service vm:101 migrate node9",
		"service vm:101 add node1", "service vm:2 add node9", "service vm:2 add node1 happy",
		"service vm:101 manual-migrate node2", "service vm:101 set-static-stats maxcpu much", "service vm:101 set-static-stats age 3",
		"service vm:101 set-static-stats cpu 3", "service vm:101 set-dynamic-stats cpu",
		"service vm:101 stop",
	} {
		s := Example()
		s.Commands = [][]string{{command}}
		var log bytes.Buffer
		err := Run(s, &log)
		if err == nil {
			t.Errorf("%s: no error", command)
			continue
		}
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if last := lines[len(lines)-1]; last != "err      20     hardware: exit simulation - "+err.Error()+" " {
			t.Errorf("%s: last line %q", command, last)
		}
	}
}

func TestRunIsTheSameEveryTime(t *testing.T) {
	s, err := Load(filepath.Join(fixtures, "affinity"))
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := Run(s, &first); err != nil {
		t.Fatal(err)
	}
	if err := Run(s, &second); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Error("two runs of one scenario differ")
	}
}

func TestLoadNamesTheBadFile(t *testing.T) {
	for name, text := range map[string]string{
		"cmdlist":               "[",
		"service_config":        `{"vm:1": {"node": "n", "state": "sleepy"}}`,
		"hardware_status":       `{"n": {"maxcpu": "many"}}`,
		"datacenter.cfg":        `{"crs": {"ha-auto-rebalance-margin": "wide"}}`,
		"dynamic_service_stats": `{"vm:1": 3}`,
	} {
		dir := t.TempDir()
		for file, content := range map[string]string{"cmdlist": "[]", "hardware_status": "{}", "manager_status": "{}", "service_config": "{}", name: text} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzFlaw checks that no id, however odd, breaks the simulated guests.
func FuzzFlaw(f *testing.F) {
	for _, sid := range []string{"fa:120001", "fa:", "fa", "vm:1", "fa:9x9"} {
		f.Add(sid)
	}
	f.Fuzz(func(t *testing.T, sid string) {
		if got := flawOf(sid); got.starts < 0 || got.starts > 9 || got.moves < 0 || got.moves > 9 {
			t.Errorf("%q: %+v", sid, got)
		}
	})
}
