package iptables

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/scenario"
	"etcpve/agents/host"
)

// sh runs a command and fails the test if it fails.
func sh(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func scenarios(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("../../../fixtures/firewall/*/tests")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no scenarios", err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

func load(t *testing.T, dir string) *firewall.Ruleset {
	t.Helper()
	s, err := scenario.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s.Rules()
}

// reach applies a rule set and returns what was done.
func reach(t *testing.T, d *Driver, want *firewall.Ruleset) (done []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	have, err := d.Observe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range Plan(want, have) {
		if err := d.Apply(ctx, a); err != nil {
			t.Fatalf("%s: %v\n%s", a, err, a.script)
		}
		done = append(done, a.String())
	}
	return done
}

// drivers are the variants of the tools that work on this machine.
func drivers(t *testing.T) map[string]*Driver {
	list := map[string]*Driver{"nft": {Runner: host.System{}}}
	if exec.Command("iptables-legacy", "-L", "-n").Run() == nil {
		list["legacy"] = &Driver{Runner: host.System{}, Legacy: true}
	} else {
		t.Log("iptables-legacy does not work here")
	}
	return list
}
