package roundrobin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/sample"
)

func rrdtool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("rrdtool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("rrdtool %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func needRRDtool(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("rrdtool"); err != nil {
		t.Skip("no rrdtool on this machine: ", err)
	}
}

// begin is the first second of a minute.
const begin = 1700000040

// storage adds and flushes a minute's rows of a storage that has 100 of 1000
// bytes used, then 200, and so on.
func storage(t *testing.T, f *Files, minutes int) {
	t.Helper()
	for m := range minutes {
		for s := 0; s < 60; s += 10 {
			at := int64(begin + m*60 + s)
			f.Add(sample.Rows([]byte(sample.Storage{Node: "n1", ID: "local", Time: time.Unix(at, 0), Total: sample.Count(1000), Used: sample.Count((m + 1) * 100)}.Line())), time.Unix(at, 0))
		}
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMinutesAreAveraged(t *testing.T) {
	needRRDtool(t)
	f := &Files{Dir: t.TempDir()}
	storage(t, f, 6)
	name := filepath.Join(f.Dir, "pve-storage-9.0/n1/local")
	out := rrdtool(t, "fetch", name, "AVERAGE", "-r", "60", "-s", fmt.Sprint(begin), "-e", fmt.Sprint(begin+240))
	// A row counts from the one before it: five of 200 bytes, and the first of 300.
	want := fmt.Sprintf("%d: 1.0000000000e+03 2.1666666667e+02", begin+120)
	if !strings.Contains(out, want) {
		t.Errorf("no %q in\n%s", want, out)
	}
}

func TestFilesHaveTheLayoutOfTheForms(t *testing.T) {
	needRRDtool(t)
	f := &Files{Dir: t.TempDir()}
	now := time.Unix(begin, 0)
	lines := sample.Node{Name: "n1", Time: now, NetIn: sample.Count(5)}.Line() +
		sample.Guest{VMID: 100, Time: now}.Line() + sample.Storage{Node: "n1", ID: "a", Time: now}.Line()
	f.Add(sample.Rows([]byte(lines)), now)
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"pve-node-9.0/n1": {"step = 60\n", `ds[loadavg].type = "GAUGE"`, `ds[netin].type = "DERIVE"`, "ds[pressurememoryfull].index = 18",
			"ds[cpu].minimal_heartbeat = 120", "rra[0].pdp_per_row = 1\n", "rra[0].rows = 1440", "rra[3].pdp_per_row = 10080", "rra[3].rows = 570", `rra[7].cf = "MAX"`},
		"pve-vm-9.0/100":       {"ds[memhost].index = 10", `ds[diskwrite].type = "DERIVE"`, "ds[pressurememoryfull].index = 16"},
		"pve-storage-9.0/n1/a": {"ds[used].index = 1"},
	} {
		info := rrdtool(t, "info", filepath.Join(f.Dir, key))
		for _, w := range want {
			if !strings.Contains(info, w) {
				t.Errorf("%s: no %q in\n%s", key, w, info)
			}
		}
	}
}

func TestNothingButSamplesBecomesAFile(t *testing.T) {
	needRRDtool(t)
	f := &Files{Dir: filepath.Join(t.TempDir(), "db")}
	now := time.Unix(begin, 0)
	f.Add([]sample.Row{
		{Key: "pve-node-9.0/../../escape", Time: begin, Values: []string{"1"}},
		{Key: "pve-node-9.0/a b", Time: begin, Values: []string{"1"}},
		{Key: "pve-node-9.0/a\nquit", Time: begin, Values: []string{"1"}},
		{Key: "pve-other-9.0/n1", Time: begin, Values: []string{"1"}},
		{Key: "pve-storage-9.0/n1/future", Time: begin + 3600, Values: []string{"1"}},
		{Key: "pve-storage-9.0/n1/good", Time: begin, Values: []string{"1", "2", "3", "4"}},
	}, now)
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var found []string
	err := filepath.WalkDir(filepath.Dir(f.Dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != 1 || !strings.HasSuffix(found[0], "/db/pve-storage-9.0/n1/good") {
		t.Errorf("files: %v, %v", found, err)
	}
}

// TestAgentsThatStartAnewGoOn: rows that are in a file already are no failure,
// and one broken file keeps no other from its rows.
func TestAgentsThatStartAnewGoOn(t *testing.T) {
	needRRDtool(t)
	f := &Files{Dir: t.TempDir()}
	storage(t, f, 2)
	again := &Files{Dir: f.Dir}
	for _, at := range []int64{begin + 110, begin + 115} { // one that is there, and one that is not
		again.Add([]sample.Row{{Key: "pve-storage-9.0/n1/local", Time: at, Values: []string{"1", "2"}}}, time.Unix(at, 0))
	}
	if err := again.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if last := strings.TrimSpace(rrdtool(t, "last", filepath.Join(f.Dir, "pve-storage-9.0/n1/local"))); last != fmt.Sprint(begin+115) {
		t.Errorf("the last row is of %s", last)
	}
	if err := os.WriteFile(filepath.Join(f.Dir, "pve-storage-9.0/n1/broken"), []byte("no such file"), 0o644); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(begin+600, 0)
	again.Add([]sample.Row{{Key: "pve-storage-9.0/n1/broken", Time: begin + 600, Values: []string{"1", "2"}},
		{Key: "pve-storage-9.0/n1/local", Time: begin + 600, Values: []string{"1", "2"}}}, now)
	if err := again.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a broken file: %v", err)
	}
	if last := strings.TrimSpace(rrdtool(t, "last", filepath.Join(f.Dir, "pve-storage-9.0/n1/local"))); last != fmt.Sprint(begin+600) {
		t.Errorf("the last row is of %s", last)
	}
}
