package size

import (
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

func TestConvertRoundsUpUnlessTold(t *testing.T) {
	for _, c := range []struct {
		value, from, to string
		down            bool
		want            int64
	}{
		{"1", "kb", "b", false, 1024},
		{"1", "B", "KB", false, 1},
		{"1", "b", "pb", true, 0},
		{"2.5", "tb", "gb", false, 2560},
		{"3.", "mb", "mb", false, 3},
		{".25", "gb", "mb", true, 256},
		{"1025", "mb", "gb", false, 2},
		{"1025", "mb", "gb", true, 1},
	} {
		if got, err := Convert(c.value, c.from, c.to, c.down); err != nil || got != c.want {
			t.Errorf("Convert(%q, %s, %s, %v) = %d, %v; want %d", c.value, c.from, c.to, c.down, got, err, c.want)
		}
	}
}

func TestConvertRefusesInOrder(t *testing.T) {
	for _, c := range []struct{ value, from, to, want string }{
		{"", "nope", "b", "no value given"},
		{"x", "b", "eb", "unknown 'from' and/or 'to' units (b => eb)"},
		{"-2", "b", "kb", "value '-2' is not a valid, positive number"},
		{"1..2", "b", "kb", "value '1..2' is not a valid, positive number"},
		{".", "b", "kb", "value '.' is not a valid, positive number"},
		{"999999999999", "pb", "b", "value '999999999999' is too large"},
	} {
		if _, err := Convert(c.value, c.from, c.to, false); err == nil || err.Error() != c.want {
			t.Errorf("Convert(%q, %s, %s): %v; want %s", c.value, c.from, c.to, err, c.want)
		}
	}
}

func TestGoldenConvertSize(t *testing.T) {
	type testCase struct {
		Name  string
		Input struct {
			Value, From, To string
			RoundDown       bool `json:"round_down"`
		}
		Expected int64
		Error    string
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "convert_size") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			got, err := Convert(c.Input.Value, c.Input.From, c.Input.To, c.Input.RoundDown)
			switch {
			case c.Error != "":
				if err == nil || !strings.HasPrefix(err.Error(), strings.TrimSpace(c.Error)) {
					t.Errorf("error %v; want %q", err, c.Error)
				}
			case err != nil || got != c.Expected:
				t.Errorf("%d, %v; want %d", got, err, c.Expected)
			}
		})
	}
}

func FuzzConvert(f *testing.F) {
	f.Add("1.5", "gb", "kb", false)
	f.Fuzz(func(t *testing.T, value, from, to string, down bool) {
		up, err := Convert(value, from, to, false)
		if err != nil {
			return
		}
		low, err := Convert(value, from, to, true)
		if err != nil || low > up || up-low > 1 {
			t.Errorf("%q %s → %s: %d up, %d down, %v", value, from, to, up, low, err)
		}
	})
}
