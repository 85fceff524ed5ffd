package membership

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// witness is a carrier that notes when news has come.
type witness struct {
	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

func (w *witness) State() []byte { return nil }
func (w *witness) Merge([]byte)  {}

func (w *witness) News(body []byte) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.seen[string(body)]; known {
		return "", false
	}
	w.seen[string(body)] = time.Now()
	return string(body), true
}

func (w *witness) when(body string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[body]
}

// crowd starts nodes in one process, under virtual time, that all know each other.
func crowd(t *testing.T, size int) (nodes []*Gossip, witnesses []*witness) {
	t.Helper()
	network := &air{stations: map[string]*station{}}
	for i := range size {
		name := fmt.Sprint("n", i)
		w := &witness{seen: map[string]time.Time{}}
		g, err := Start(Config{
			Node: name, Key: key, Timing: LAN(), Log: slog.New(slog.DiscardHandler),
			Allowed: func(string) bool { return true }, transport: network.station(),
		}, w)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := g.Join("127.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
		}
		nodes, witnesses = append(nodes, g), append(witnesses, w)
	}
	for _, g := range nodes {
		for tries := 0; g.count() < size; tries++ {
			if time.Sleep(100 * time.Millisecond); tries == 600 {
				t.Fatalf("%s knows %d of %d", g.config.Node, g.count(), size)
			}
		}
	}
	return nodes, witnesses
}

// disperse ends them all and what is under way.
func disperse(t *testing.T, nodes []*Gossip) {
	t.Helper()
	for _, g := range nodes {
		if err := g.list.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(time.Minute)
}

// TestNewsReachesMoreNodesThanItsSenderTells counts on those who hear it first:
// a sender alone tells it some times only, however many nodes there are.
func TestNewsReachesMoreNodesThanItsSenderTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, witnesses := crowd(t, 24)
		begun := time.Now()
		for i := range 20 {
			body := fmt.Sprint("item ", i)
			if err := nodes[0].Spread(body, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		var last time.Duration
		for k, w := range witnesses[1:] {
			for i := range 20 {
				at := w.when(fmt.Sprint("item ", i))
				if at.IsZero() {
					t.Errorf("item %d did not reach node %d", i, k+1)
				}
				last = max(last, at.Sub(begun))
			}
		}
		t.Logf("%d nodes have all news after %v", len(nodes), last)
		disperse(t, nodes)
	})
}

// TestNewsReachesACrowd measures how long news of one node takes to reach 50 and 200.
func TestNewsReachesACrowd(t *testing.T) {
	if os.Getenv("CROWD") == "" {
		t.Skip("long mode: measures for a minute of a processor with CROWD=1")
	}
	for _, size := range []int{3, 50, 200} {
		synctest.Test(t, func(t *testing.T) {
			nodes, witnesses := crowd(t, size)
			var took []time.Duration
			for i := range 5 {
				body, begun := fmt.Sprint("change ", i), time.Now()
				if err := nodes[i%size].Spread(body, []byte(body)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				last := begun
				for k, w := range witnesses {
					at := w.when(body)
					if k != i%size && at.IsZero() {
						t.Fatalf("%d nodes: news did not reach node %d", size, k)
					}
					if at.After(last) {
						last = at
					}
				}
				took = append(took, last.Sub(begun))
			}
			slices.Sort(took)
			t.Logf("%d nodes: news reaches all after %v (median of %d), %v at worst", size, took[len(took)/2], len(took), took[len(took)-1])
			if worst := took[len(took)-1]; worst > time.Second {
				t.Errorf("%d nodes: %v", size, worst)
			}
			disperse(t, nodes)
		})
	}
}
