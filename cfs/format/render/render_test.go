package render

import (
	"fmt"
	"testing"
	"time"

	"etcpve/fixtures/golden"
)

func TestRender(t *testing.T) {
	zone := time.FixedZone("", -2*3600)
	for got, want := range map[string]string{
		Duration(0):                     "0s",
		Duration(59.5):                  "1m",
		Duration(694861):                "1w 1d 1h 1m 1s",
		Duration(7200):                  "2h",
		Percentage(1.5):                 "150.00%",
		Bytes(1024, 2):                  "1.00 KiB",
		Bytes(1023, 0):                  "1023 B",
		Bytes(1<<60, 1):                 "1024.0 PiB",
		Timestamp(86400*365, zone):      "1970-12-31 22:00:00",
		Timestamp(1000000000, time.UTC): "2001-09-09 01:46:40",
	} {
		if got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

// zoneOf reads the time zones of the golden data: "UTC+1 (fixed offset)".
func zoneOf(t *testing.T, name string) *time.Location {
	var hours int
	if n, _ := fmt.Sscanf(name, "UTC%d", &hours); n == 1 {
		return time.FixedZone(name, hours*3600)
	}
	if name == "" {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestGoldenRender(t *testing.T) {
	type testCase struct {
		Name, Renderer, Timezone, Expected string
		Value                              float64
		Precision                          *int
	}
	for _, c := range golden.Cases[testCase](t, "section-config", "render") {
		golden.Case(t, "section-config", c.Name, func(t *testing.T) {
			precision := BytesPrecision
			if c.Precision != nil {
				precision = *c.Precision
			}
			renderers := map[string]func() string{
				"timestamp":              func() string { return Timestamp(int64(c.Value), zoneOf(t, c.Timezone)) },
				"timestamp_gmt":          func() string { return Timestamp(int64(c.Value), time.UTC) },
				"duration":               func() string { return Duration(c.Value) },
				"fraction_as_percentage": func() string { return Percentage(c.Value) },
				"bytes":                  func() string { return Bytes(c.Value, precision) },
			}
			render, ok := renderers[c.Renderer]
			if !ok {
				t.Fatalf("unknown renderer %q", c.Renderer)
			}
			if got := render(); got != c.Expected {
				t.Errorf("%q; want %q", got, c.Expected)
			}
		})
	}
}
