package upid

import (
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

var sample = UPID{Node: "n-1", PID: 0xabc, PStart: 0x123456789, StartTime: 0x6900000b, Type: "qmstart", ID: "100", User: "a@pve!tok"}

func TestParseIsTheInverseOfString(t *testing.T) {
	for _, u := range []UPID{sample, {Node: "n", Type: "aptupdate", User: "root@pam"}} {
		if got, err := Parse(u.String()); err != nil || got != u {
			t.Errorf("Parse(%q) = %+v, %v", u, got, err)
		}
	}
	if got, want := sample.String(), "UPID:n-1:00000ABC:123456789:6900000B:qmstart:100:a@pve!tok:"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "UPID:", "UPID:n-:00000000:00000000:00000000:t::u:", "UPID:n:0:00000000:00000000:t::u:",
		"UPID:n:00000000:00000000:00000000:t x::u:", "UPID:n:00000000:00000000:00000000:t:a/b:u:",
		"UPID:n:00000000:00000000:00000000:t::u", "UPID:n:00000000:00000000:00000000:t:::",
		"UPID:n:00000000:00000000:00000000:t::u:\n"} {
		if u, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %+v", s, u)
		}
	}
}

func TestStatusIsTheLastLine(t *testing.T) {
	for log, want := range map[string]string{
		"":                           "unexpected status",
		"TASK OK":                    "OK",
		"a\nTASK OK\n":               "OK",
		"TASK OK\nmore\n":            "unexpected status",
		"x\nTASK ERROR: it: broke\n": "it: broke",
		"x\nTASK WARNINGS: 3\n":      "WARNINGS: 3",
		"x\nTASK WARNINGS: many\n":   "unexpected status",
		"x\nTASK ERROR:\n":           "unexpected status",
		"x\nTASK OK\n\n":             "unexpected status",
	} {
		if got := Status(log); got != want {
			t.Errorf("Status(%q) = %q; want %q", log, got, want)
		}
	}
	if got := sample.LogPath(); got != "/var/log/pve/tasks/B/"+sample.String() {
		t.Errorf("log path %q", got)
	}
}

func TestGoldenUPID(t *testing.T) {
	type testCase struct {
		Name, UPID, Error string
		Expected          UPID
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "upid") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			got, err := Parse(c.UPID)
			if c.Error != "" {
				if err == nil || err.Error()+"\n" != c.Error {
					t.Errorf("error %v; want %q", err, c.Error)
				}
				return
			}
			if err != nil || got != c.Expected || got.String() != c.UPID {
				t.Errorf("%+v, %v, written %q; want %+v", got, err, got, c.Expected)
			}
		})
	}
}

func TestGoldenTaskStatus(t *testing.T) {
	type testCase struct {
		Name, UPID, Log, Expected string
		LogPath                   string `json:"log_path"`
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "task_status") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			if got := Status(c.Log); got != c.Expected {
				t.Errorf("status %q; want %q", got, c.Expected)
			}
			u, err := Parse(c.UPID)
			if err != nil || u.LogPath() != c.LogPath {
				t.Errorf("log path %q, %v; want %q", u.LogPath(), err, c.LogPath)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample.String())
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := Parse(s); err == nil && !strings.EqualFold(u.String(), s) {
			t.Errorf("%q is written %q", s, u)
		}
	})
}
