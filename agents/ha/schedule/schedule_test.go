package schedule

import (
	"fmt"
	"math"
	"testing"
)

const gib = 1 << 30

func nodes(n int) map[string]Node {
	all := map[string]Node{}
	for i := range n {
		all[fmt.Sprint("n", i+1)] = Node{Cores: 10, Mem: 10 * gib}
	}
	return all
}

func mustNew(t *testing.T, mode Mode, n int, services map[string]Service) *Usage {
	t.Helper()
	u, err := New(mode, nodes(n), services)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// best returns the nodes with the lowest score.
func best(u *Usage, sid string) (all []string) {
	lowest, scores := math.Inf(1), u.Scores(sid)
	for _, name := range u.names {
		switch s := scores[name]; {
		case s < lowest:
			lowest, all = s, []string{name}
		case s == lowest:
			all = append(all, name)
		}
	}
	return all
}

func TestBasicCountsServices(t *testing.T) {
	u := mustNew(t, Basic, 3, nil)
	u.Set("vm:1", Use{Node: "n1"})
	u.Set("vm:2", Use{Node: "n1", Target: "n2"})
	u.Set("vm:3", Use{Node: "gone", Target: "n3"})
	u.Set("vm:4", Use{Node: "gone"})
	if got := fmt.Sprint(u.Scores("vm:9")); got != "map[n1:2 n2:1 n3:1]" {
		t.Error(got)
	}
	if got := u.Of("vm:3"); got != (Use{Node: "n3", Coming: true}) {
		t.Errorf("%+v", got)
	}
	u.Set("vm:1", Use{})
	if got := fmt.Sprint(u.Scores("vm:9")); got != "map[n1:1 n2:1 n3:1]" {
		t.Error(got)
	}
}

func TestStaticPrefersFreeMemory(t *testing.T) {
	services := map[string]Service{
		"vm:1": {MaxCPU: 1, MaxMem: 6 * gib},
		"vm:2": {MaxCPU: 6, MaxMem: 1 * gib},
		"vm:3": {MaxCPU: 0, MaxMem: 1 * gib}, // all cores
	}
	u := mustNew(t, Static, 3, services)
	u.Set("vm:1", Use{Node: "n1"})
	if got := fmt.Sprint(best(u, "vm:2")); got != "[n2 n3]" {
		t.Error(got)
	}
	u.Set("vm:2", Use{Node: "n2"})
	u.Set("vm:3", Use{Node: "n3"})
	if got := fmt.Sprint(best(u, "vm:2")); got != "[n2]" {
		t.Error(got)
	}
	for range 3 { // adding and removing leaves no trace
		u.Set("vm:3", Use{Node: "n1", Target: "n2"})
		u.Set("vm:3", Use{Node: "n3"})
	}
	if got := u.nodes["n1"].limits; got != amountOf(1, 6*gib) {
		t.Errorf("%+v", got)
	}
}

func TestStaticNeedsFigures(t *testing.T) {
	if _, err := New(Static, map[string]Node{"n1": {}}, nil); err == nil {
		t.Error("no error")
	}
	if _, err := New(Dynamic, map[string]Node{"n1": {}}, nil); err != nil {
		t.Error(err)
	}
}

func TestDynamicCountsWhatRunsAndWhatComes(t *testing.T) {
	services := map[string]Service{
		"vm:1": {MaxCPU: 8, MaxMem: 8 * gib, CPU: 1, Mem: 1 * gib, On: "n1"},
		"vm:2": {MaxCPU: 2, MaxMem: 2 * gib, CPU: 2, Mem: 2 * gib},
	}
	u := mustNew(t, Dynamic, 2, services)
	u.Set("vm:1", Use{Node: "n1"})
	u.Set("vm:2", Use{Node: "n2", Coming: true})
	if got := fmt.Sprint(best(u, "vm:2")); got != "[n1]" {
		t.Errorf("with a service coming to n2: %s", got)
	}
	if got := u.loads(); got[1] != (load{}) {
		t.Errorf("what is coming counts for balancing: %v", got)
	}
	u.Set("vm:2", Use{Node: "n2"})
	if got := fmt.Sprint(best(u, "vm:2")); got != "[n2]" {
		t.Errorf("with a service that is counted as running but does not: %s", got)
	}
}

func TestImbalance(t *testing.T) {
	for _, c := range []struct {
		loads []load
		want  float64
	}{
		{[]load{{}, {}}, 0},
		{[]load{{1, 1}, {1, 1}}, 0},
		{[]load{{1, 0}, {0, 1}}, 0},
		{[]load{{1, 1}, {0, 0}}, 1},
		{[]load{{.9, .3}, {0, 0}, {0, 0}}, math.Sqrt2},
	} {
		if got := imbalance(c.loads); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v: %v, want %v", c.loads, got, c.want)
		}
	}
}

func TestBestMove(t *testing.T) {
	services := map[string]Service{}
	for i, mem := range []int64{1, 2, 2, 2} { // vm:4 stays
		services[fmt.Sprint("vm:", i+1)] = Service{MaxCPU: 1, MaxMem: mem * gib, CPU: 1, Mem: mem * gib, On: "n1"}
	}
	bundles := []Bundle{
		{[]string{"vm:1"}, "n1", []string{"n2", "n3"}},
		{[]string{"vm:2", "vm:3"}, "n1", []string{"n2", "n3"}},
	}
	for _, mode := range []Mode{Static, Dynamic} {
		u := mustNew(t, mode, 3, services)
		for sid := range services {
			u.Set(sid, Use{Node: "n1"})
		}
		for _, topsis := range []bool{false, true} {
			m, found := u.BestMove(bundles, topsis)
			if !found || m.Leader != "vm:2" || m.Target != "n2" || m.After >= m.Before {
				t.Errorf("%s, topsis %v: %+v", mode, topsis, m)
			}
		}
	}
	u := mustNew(t, Static, 3, services)
	if m, found := u.BestMove(nil, false); found {
		t.Errorf("without bundles: %+v", m)
	}
}

func TestRatingsAreBetweenNoughtAndOne(t *testing.T) {
	got := rate([]figures{{1, 1, 1, 1}, {2, 2, 2, 2}, {1.5, 1.5, 1.5, 1.5}})
	if got[0] != 1 || got[1] != 0 || math.Abs(got[2]-.5) > 1e-12 {
		t.Errorf("%v", got)
	}
	if got := rate([]figures{{1, 1, 1, 1}, {1, 1, 1, 1}}); got[0] != 0 || got[1] != 0 {
		t.Errorf("equal alternatives: %v", got)
	}
}
