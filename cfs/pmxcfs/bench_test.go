package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkSingleNode prints a table of what a lone node does through its mount,
// with a real database. It is one measurement, whatever b.N.
func BenchmarkSingleNode(b *testing.B) {
	n := newNode(b)
	n.start()
	if err := os.Mkdir(n.path("bench"), 0o755); err != nil {
		b.Fatal(err)
	}
	t := &table{b: b, n: n, body: bytes.Repeat([]byte("x"), 700)}
	t.say("RSS near empty", fmt.Sprintf("%.1f MB", n.resident()))
	for b.Loop() {
		t.operations()
	}
	t.parallel()
	t.bytesPerSave()
	t.full()
	fmt.Print("\n" + t.rows.String()) // a benchmark's log is cut
}

type table struct {
	b    *testing.B
	n    *node
	body []byte
	rows strings.Builder
}

func (t *table) say(what, value string) { fmt.Fprintf(&t.rows, "%-28s %s\n", what, value) }

func (t *table) must(err error) {
	if err != nil {
		t.b.Fatal(err)
	}
}

func (t *table) path(i int) string { return t.n.path(fmt.Sprintf("bench/%d.conf", i)) }

// row measures count calls and says how long half of them take at most.
func (t *table) row(what string, count int, do func(i int) error) {
	took := make([]time.Duration, count)
	for i := range took {
		begin := time.Now()
		t.must(do(i))
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	t.say(what, fmt.Sprintf("p50 %v  p99 %v", took[count/2].Round(100*time.Nanosecond), took[count*99/100].Round(time.Microsecond)))
}

func (t *table) operations() {
	t.row("create + write + close 700 B", 300, func(i int) error { return os.WriteFile(t.path(i), t.body, 0o640) })
	t.row("tmp + rename", 300, func(i int) error {
		if err := os.WriteFile(t.path(i)+".tmp.1", t.body, 0o640); err != nil {
			return err
		}
		return os.Rename(t.path(i)+".tmp.1", t.path(i))
	})
	t.row("mkdir + rmdir", 300, func(int) error {
		if err := os.Mkdir(t.n.path("bench/lock"), 0o755); err != nil {
			return err
		}
		return os.Remove(t.n.path("bench/lock"))
	})
	t.row("read whole file", 6000, func(i int) error { _, err := os.ReadFile(t.path(i % 300)); return err })
	t.row("stat", 6000, func(i int) error { _, err := os.Stat(t.path(i % 300)); return err })
	t.row("readdir of 300", 100, func(int) error { _, err := os.ReadDir(t.n.path("bench")); return err })
}

func (t *table) parallel() {
	const writers, each = 8, 300
	begin := time.Now()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := os.WriteFile(t.n.path(fmt.Sprintf("bench/p%d-%d", w, i)), t.body, 0o640); err != nil {
					t.b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.say("8 parallel writers", fmt.Sprintf("%.0f/s", writers*each/time.Since(begin).Seconds()))
}

// bytesPerSave reads what the daemon has had written to disk.
func (t *table) bytesPerSave() {
	for _, size := range []int{100, 700, 64 << 10, 500 << 10} {
		const saves = 50
		before := t.n.written()
		for range saves {
			t.must(os.WriteFile(t.n.path("bench/size"), noise(size), 0o640))
		}
		per := float64(t.n.written()-before) / saves
		t.say(fmt.Sprintf("bytes to disk, save of %d B", size), fmt.Sprintf("%.0f (%.2f x)", per, per/float64(size)))
	}
}

// full fills the tree with 10,000 files of 3,000 bytes and starts again.
func (t *table) full() {
	t.must(os.RemoveAll(t.n.path("bench")))
	for d := range 100 {
		dir := t.n.path(fmt.Sprintf("full%d", d))
		t.must(os.Mkdir(dir, 0o755))
		for i := range 100 {
			t.must(os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), noise(3000), 0o640))
		}
	}
	t.say("RSS with 30 MB in 10,000", fmt.Sprintf("%.1f MB", t.n.resident()))
	t.n.cmd.Process.Signal(os.Interrupt)
	t.must(t.n.end())
	begin := time.Now()
	t.n.start()
	t.say("start with 10,000 files", time.Since(begin).Round(time.Millisecond).String())
	t.say("RSS after the start", fmt.Sprintf("%.1f MB", t.n.resident()))
}

// field reads a number from a file of the daemon's directory in /proc.
func (n *node) field(file, key string) (value int64) {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", n.cmd.Process.Pid, file))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			fmt.Sscan(rest, &value)
		}
	}
	return value
}

func (n *node) resident() float64 { return float64(n.field("status", "VmRSS")) / 1024 }
func (n *node) written() int64    { return n.field("io", "write_bytes") }

// noise is content that cannot be compressed.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	return b
}
