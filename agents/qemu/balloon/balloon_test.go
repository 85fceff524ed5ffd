package balloon

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"etcpve/fixtures/golden"
)

// A scenario is a case of the conformance data.
type scenario struct {
	Name      string
	Mode      string // single, or simulate: round after round until nothing changes
	Guests    map[string]facts
	Goal      int64
	MaxChange int64 `json:"max_change"`
	Expected  map[string]int64
}

type facts struct {
	MaxMem     int64
	Balloon    int64
	BalloonMin int64 `json:"balloon_min"`
	Shares     *int64
	FreeMem    int64
	Lock       string
}

func (s scenario) guests(t *testing.T) (list []Guest) {
	t.Helper()
	for id, f := range s.Guests {
		vmid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Guest{VMID: uint32(vmid), Max: f.MaxMem, Min: f.BalloonMin, Size: f.Balloon,
			Free: f.FreeMem, Shares: f.Shares, Migrating: f.Lock == "migrate"})
	}
	return list
}

// rounds applies plans until nothing changes, and returns the last size of each
// guest that changed.
func rounds(t *testing.T, guests []Guest, goal, step int64) map[uint32]int64 {
	t.Helper()
	last := map[uint32]int64{}
	for n := 0; ; n++ {
		plan := Plan(guests, goal, step)
		if len(plan) == 0 {
			return last
		}
		if n > 10000 {
			t.Fatal("never comes to rest")
		}
		goal -= Moved(guests, plan)
		for i, g := range guests {
			if size, ok := plan[g.VMID]; ok {
				guests[i].Free = max(0, g.Free+size-g.Size)
				guests[i].Size = size
				last[g.VMID] = size
			}
		}
	}
}

func (s scenario) check(t *testing.T) {
	want := map[uint32]int64{}
	for id, size := range s.Expected {
		vmid, _ := strconv.ParseUint(id, 10, 32)
		want[uint32(vmid)] = size
	}
	got := Plan(s.guests(t), s.Goal, s.MaxChange)
	if s.Mode == "simulate" {
		got = rounds(t, s.guests(t), s.Goal, s.MaxChange)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGoldenBalloon(t *testing.T) {
	for _, s := range golden.Cases[scenario](t, "balloon", ".") {
		golden.Case(t, "balloon", s.Name, s.check)
	}
}

// own are cases of our own making for the same rules.
const own = `[
{"name": "too little to do anything", "mode": "single", "goal": 10485760, "max_change": 100,
 "guests": {"1": {"maxmem": 4000, "balloon_min": 1000, "balloon": 2000}}, "expected": {}},
{"name": "a byte more", "mode": "single", "goal": 10485761, "max_change": 100,
 "guests": {"1": {"maxmem": 4000, "balloon_min": 1000, "balloon": 2000}}, "expected": {"1": 2100}},
{"name": "who takes no part", "mode": "single", "goal": 20000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 0},
  "2": {"maxmem": 400000000, "balloon": 100000000},
  "3": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "shares": 0},
  "4": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "lock": "migrate"},
  "5": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "lock": "backup"}}, "expected": {"5": 120000000}},
{"name": "no shares are a thousand", "mode": "single", "goal": 30000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "shares": 2000}}, "expected": {"1": 110000000, "2": 120000000}},
{"name": "those short of memory come first", "mode": "single", "goal": 30000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "freemem": 25000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "freemem": 25000001}}, "expected": {"1": 130000000}},
{"name": "all, if nobody is", "mode": "single", "goal": 30000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "freemem": 90000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "freemem": 90000000}}, "expected": {"1": 115000000, "2": 115000000}},
{"name": "those with memory to spare give first", "mode": "single", "goal": -30000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 200000000, "freemem": 10000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 200000000, "freemem": 90000000}}, "expected": {"2": 170000000}},
{"name": "what one cannot take goes to the others", "mode": "single", "goal": 90000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 110000000, "balloon_min": 100000000, "balloon": 100000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000},
  "3": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000}}, "expected": {"1": 110000000, "2": 140000000, "3": 140000000}},
{"name": "parts of a byte are nobody's", "mode": "single", "goal": 20000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000},
  "2": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 100000000, "shares": 2000}}, "expected": {"1": 106666666, "2": 113333333}},
{"name": "nobody below the minimum", "mode": "simulate", "goal": -900000000, "max_change": 30000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 200000000},
  "2": {"maxmem": 400000000, "balloon_min": 150000000, "balloon": 300000000, "freemem": 290000000}}, "expected": {"1": 100000000, "2": 150000000}},
{"name": "nobody above the maximum", "mode": "simulate", "goal": 900000000, "max_change": 30000000,
 "guests": {"1": {"maxmem": 400000000, "balloon_min": 100000000, "balloon": 200000000, "shares": 10},
  "2": {"maxmem": 350000000, "balloon_min": 150000000, "balloon": 300000000, "freemem": 290000000}}, "expected": {"1": 400000000, "2": 350000000}},
{"name": "a guest of the wrong size is brought to its share", "mode": "single", "goal": 100000000, "max_change": 100000000,
 "guests": {"1": {"maxmem": 900000000, "balloon_min": 100000000, "balloon": 400000000},
  "2": {"maxmem": 900000000, "balloon_min": 100000000, "balloon": 200000000}}, "expected": {"1": 350000000, "2": 300000000}}
]`

func TestOwnCases(t *testing.T) {
	var all []scenario
	if err := json.Unmarshal([]byte(own), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(s.Name, s.check)
	}
}

// TestEveryPlanKeepsTheLimits draws guests at random.
func TestEveryPlanKeepsTheLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var guests []Guest
		for i := range r.IntN(6) {
			g := Guest{VMID: uint32(100 + i), Min: r.Int64N(1 << 31)}
			g.Max = g.Min + r.Int64N(1<<31)
			g.Size = g.Min + r.Int64N(g.Max-g.Min+1)
			g.Free = r.Int64N(g.Size + 1)
			if shares := r.Int64N(5000); r.IntN(2) == 0 {
				g.Shares = &shares
			}
			guests = append(guests, g)
		}
		goal, step := r.Int64N(1<<33)-1<<32, 1+r.Int64N(1<<28)
		plan := Plan(guests, goal, step)
		for _, g := range guests {
			size, ok := plan[g.VMID]
			if ok && (size == g.Size || size < g.Min || size > g.Max || size < g.Size-step || size > g.Size+step) {
				t.Fatalf("%+v becomes %d with a goal of %d and steps of %d", g, size, goal, step)
			}
		}
		if moved := Moved(guests, plan); moved != 0 && (moved > 0) != (goal > 0) {
			t.Fatalf("a goal of %d moves %d: %+v %v", goal, moved, guests, plan)
		}
		rounds(t, guests, goal, 1<<28)
	}
}
