package calendar

import (
	"testing"
	"time"

	"etcpve/fixtures/golden"
)

func TestNext(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones: %v", err)
	}
	for _, c := range []struct {
		event, after, want string
		zone               *time.Location
	}{
		{"5", "2026-01-01 00:00:00", "2026-01-01 00:05:00", time.UTC},
		{"5", "2026-01-01 00:05:00", "2026-01-01 01:05:00", time.UTC},
		{"2:30", "2026-01-01 02:30:00", "2026-01-02 02:30:00", time.UTC},
		{"2/6:15", "2026-01-01 02:15:00", "2026-01-01 08:15:00", time.UTC},
		{"mon,fri 22..23:0/20", "2026-01-01 00:00:00", "2026-01-02 22:00:00", time.UTC},
		{"sun..mon", "2026-01-05 00:00:00", "2026-01-11 00:00:00", time.UTC},
		{"2-29", "2026-01-01 00:00:00", "2028-02-29 00:00:00", time.UTC},
		{"mon *-2-29 1:2:3", "2026-01-01 00:00:00", "2044-02-29 01:02:03", time.UTC},
		{"monthly", "2026-01-31 23:59:59", "2026-02-01 00:00:00", time.UTC},
		{"minutely", "2026-01-31 23:59:00", "2026-02-01 00:00:00", time.UTC},
		{"0:0 UTC", "2026-01-01 00:30:00", "2026-01-01 01:00:00", berlin},
		{"2:30", "2026-03-29 00:00:00", "2026-03-29 03:30:00", berlin}, // in the gap
		{"3:30", "2026-10-24 12:00:00", "2026-10-25 03:30:00", berlin},
	} {
		e, err := Parse(c.event)
		if err != nil {
			t.Errorf("%q: %v", c.event, err)
			continue
		}
		after, err := time.ParseInLocation(time.DateTime, c.after, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := e.Next(after)
		if text := got.In(c.zone).Format(time.DateTime); !ok || text != c.want {
			t.Errorf("%q after %s: %s, %v; want %s", c.event, c.after, text, ok, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, event := range []string{"", " ", "60", "24:0", "*/60", "0/0", "5..3", "1..60", "fri..mon", "foo", "mon tue", "0 0", "1:2:3:4",
		"13-1", "1-32", "1969-1-1", "*-*-*-*", "1,", "mon,", "utc", "daily 5"} {
		if e, err := Parse(event); err == nil {
			t.Errorf("%q was read as %+v", event, e)
		}
	}
}

func TestNeverIsFound(t *testing.T) {
	e, err := Parse("2-30")
	if err != nil {
		t.Fatal(err)
	}
	if next, ok := e.Next(time.Unix(0, 0)); ok {
		t.Errorf("the 30th of February is on %v", next)
	}
}

func TestGoldenCalendar(t *testing.T) {
	type testCase struct {
		Name, Event, Timezone string
		Valid                 bool
		Next                  []struct{ Start, Expected int64 }
	}
	for _, c := range golden.Cases[testCase](t, "calendar", "") {
		golden.Case(t, "calendar", c.Name, func(t *testing.T) {
			e, err := Parse(c.Event)
			if (err == nil) != c.Valid {
				t.Fatalf("%v; valid: %v", err, c.Valid)
			}
			zone, zoneErr := time.LoadLocation(c.Timezone)
			if zoneErr != nil {
				t.Fatal(zoneErr)
			}
			for _, pair := range c.Next {
				if got, ok := e.Next(time.Unix(pair.Start, 0).In(zone)); !ok || got.Unix() != pair.Expected {
					t.Errorf("after %d: %d, %v; want %d", pair.Start, got.Unix(), ok, pair.Expected)
				}
			}
		})
	}
}

func FuzzNext(f *testing.F) {
	f.Add("mon..fri 2:30", int64(1e9))
	f.Add("*-2-29 */5:0/7:1,2", int64(0))
	f.Fuzz(func(t *testing.T, text string, start int64) {
		e, err := Parse(text)
		if err != nil || start < 0 || start > 1<<33 {
			return
		}
		after := time.Unix(start, 0).UTC()
		next, ok := e.Next(after)
		if ok && !next.After(after) {
			t.Fatalf("%q: %v is not after %v", text, next, after)
		}
	})
}
