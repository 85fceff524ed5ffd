package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"etcpve/fixtures/golden"
)

// TestOwnScenarios runs the directories of fixtures/firewall.
func TestOwnScenarios(t *testing.T) {
	for _, dir := range directories(t, filepath.Join("..", "..", "..", "fixtures", "firewall")) {
		for _, r := range results(t, dir) {
			if r.Err != nil {
				t.Errorf("%s/tests:%d: %v", dir, r.Test.Line, r.Err)
			}
		}
	}
}

func TestGolden(t *testing.T) {
	for _, dir := range directories(t, golden.Dir(t, "firewall")) {
		for _, r := range results(t, dir) {
			golden.Case(t, "firewall", fmt.Sprintf("%s:%d", filepath.Base(dir), r.Test.Line), func(t *testing.T) {
				if r.Err != nil {
					t.Errorf("%s: %v", r.Test.Text, r.Err)
				}
			})
		}
	}
}

func results(t *testing.T, dir string) []Result {
	t.Helper()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s.Run()
}

// directories returns the scenarios below root.
func directories(t *testing.T, root string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "tests")); err == nil {
			list = append(list, dir)
		}
	}
	return list
}
