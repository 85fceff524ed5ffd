package mount

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"etcpve/cfs/command"
)

// The mount's own share of each operation: no log and no disk below it.

func benchRig(b *testing.B) *rig {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root to mount")
	}
	r := newRig(b)
	r.mkdirs("bench")
	return r
}

func BenchmarkSave(b *testing.B) {
	r := benchRig(b)
	body := make([]byte, 700)
	for i := 0; b.Loop(); i++ {
		r.write(fmt.Sprintf("bench/%d.conf", i%300), string(body))
	}
}

func BenchmarkRead(b *testing.B) {
	r := benchRig(b)
	r.write("bench/a", string(make([]byte, 700)))
	for b.Loop() {
		r.read("bench/a")
	}
}

func BenchmarkStat(b *testing.B) {
	r := benchRig(b)
	r.write("bench/a", "1")
	for b.Loop() {
		if _, err := os.Stat(r.path("bench/a")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReaddir300(b *testing.B) {
	r := benchRig(b)
	for i := range 300 {
		r.write(fmt.Sprintf("bench/%d.conf", i), "1")
	}
	for b.Loop() {
		if l, err := os.ReadDir(r.path("bench")); err != nil || len(l) != 300 {
			b.Fatal(len(l), err)
		}
	}
}

// maxRing is the longest that a program waits for the event of a change that
// another node made.
const maxRing = 100 * time.Millisecond

// BenchmarkRemoteChangeToInotify measures from the moment at which a change is
// applied to the line that inotifywait prints.
func BenchmarkRemoteChangeToInotify(b *testing.B) {
	r := benchRig(b)
	w := r.watch("bench")
	var waits []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		r.remote(command.Write, fmt.Sprintf("bench/f%d", i), "", "1")
		for !w.has(fmt.Sprintf("CREATE bench/f%d", i)) {
			if time.Since(begin) > 10*time.Second {
				b.Fatalf("no event of change %d", i)
			}
			time.Sleep(20 * time.Microsecond)
		}
		w.mu.Lock()
		at := slices.IndexFunc(w.lines, func(l string) bool { return strings.HasPrefix(l, "CREATE ") })
		waits = append(waits, w.times[at].Sub(begin))
		w.lines, w.times = w.lines[:0], w.times[:0]
		w.mu.Unlock()
	}
	slices.Sort(waits)
	longest := waits[len(waits)-1]
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(longest.Microseconds()), "µs-max")
	if longest > maxRing {
		b.Errorf("an event took %v; want %v at most", longest, maxRing)
	}
}
