package sim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

// TestGoldenScenarios runs every scenario kept outside the project.
func TestGoldenScenarios(t *testing.T) {
	dir := golden.Dir(t, "ha")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			golden.Case(t, "ha", e.Name(), func(t *testing.T) { compareLog(t, filepath.Join(dir, e.Name())) })
		}
	}
}

// compareLog runs the scenario in dir and compares its log with log.expect.
func compareLog(t *testing.T, dir string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join(dir, "log.expect"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	runErr := Run(s, &got)
	if bytes.Equal(got.Bytes(), want) {
		return
	}
	g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d differs (run: %v)\n got: %s\nwant: %s", i+1, runErr, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}
