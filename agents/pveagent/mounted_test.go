package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestToolsSayThatNothingIsMounted runs tools where there is no cluster file
// system: each says so, and help and tests of rules do without.
func TestToolsSayThatNothingIsMounted(t *testing.T) {
	for _, tree := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		for _, line := range []string{"qm list", "qm start 100", "qm create 100", "qmrestore x 100", "pvesm status", "ha-manager status", "pve-firewall compile"} {
			code, out := called(t, tree, line)
			if code == 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, tree+": the cluster file system is not mounted") {
				t.Errorf("%s: exit code %d: %s", line, code, out)
			}
		}
		for _, line := range []string{"qm help", "pvesm apiinfo", "pve-firewall test ../../fixtures/firewall/groups"} {
			if code, out := called(t, tree, line); code != 0 {
				t.Errorf("%s: exit code %d: %s", line, code, out)
			}
		}
	}
}

// called runs a tool as main does and returns what it says.
func called(t *testing.T, tree, line string) (code int, said string) {
	var out strings.Builder
	words := strings.Fields(line)
	p := place{Tree: tree, Node: "n1", Run: t.TempDir()}
	code = mounted(tools[words[0]](p), tree).Run(t.Context(), words[1:], strings.NewReader(""), &out, &out)
	return code, out.String()
}
