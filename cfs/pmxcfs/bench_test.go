package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkSingleNode prints a table of what a lone node does through its mount,
// with a real database. It is one measurement, whatever b.N.
//
// Beside each operation stands the same one, done in the same minute on the file
// system that holds the database, with fsync where something is saved: a busy
// or slow machine changes both. What is wanted is the figure of the design.
func BenchmarkSingleNode(b *testing.B) {
	n := newNode(b)
	n.start()
	t := &table{b: b, n: n, reference: b.TempDir(), body: bytes.Repeat([]byte("x"), 700)}
	for _, dir := range []string{n.dir, t.reference} {
		t.must(os.Mkdir(filepath.Join(dir, "bench"), 0o755))
	}
	t.say("RSS near empty", fmt.Sprintf("%.1f MB", n.resident()), "", "≤ 30 MB")
	t.operations()
	t.parallel()
	t.bytesPerSave()
	t.full()
	// A benchmark's log is cut.
	fmt.Printf("\n| single node | here | reference | here : reference | wanted |\n|---|---|---|---|---|\n%s\n"+
		"here: calls of one program on a mount of a daemon of its own, p50 (p99) of 300 saves, 6,000 reads, 100 listings.\n"+
		"reference: the same calls on the file system of the database, a save with fsync. bytes: write_bytes of the daemon in\n"+
		"/proc/PID/io for 50 saves that cannot be compressed, its checkpoints included. start: until the mount answers.\n\n", t.rows.String())
}

type table struct {
	b         *testing.B
	n         *node
	reference string
	body      []byte
	rows      strings.Builder
}

// say adds a row whose reference has no ratio, or none at all.
func (t *table) say(what, here, reference, wanted string) {
	fmt.Fprintf(&t.rows, "| %s | %s | %s | | %s |\n", what, here, reference, wanted)
}

func (t *table) must(err error) {
	if err != nil {
		t.b.Fatal(err)
	}
}

// row measures count calls below the mount and below the reference.
func (t *table) row(what, wanted string, count int, do func(dir string, i int) error) {
	var p50, p99 [2]time.Duration
	for k, dir := range []string{t.n.path("bench"), filepath.Join(t.reference, "bench")} {
		took := make([]time.Duration, count)
		for i := range took {
			begin := time.Now()
			t.must(do(dir, i))
			took[i] = time.Since(begin)
		}
		slices.Sort(took)
		p50[k], p99[k] = took[count/2], took[count*99/100]
	}
	show := func(k int) string {
		return fmt.Sprintf("%.1f (%.0f) µs", p50[k].Seconds()*1e6, p99[k].Seconds()*1e6)
	}
	fmt.Fprintf(&t.rows, "| %s | %s | %s | %.2f | %s |\n", what, show(0), show(1), float64(p50[0])/float64(p50[1]), wanted)
}

// save writes a file, durably in either place: below the mount that is what
// close means.
func (t *table) save(path string) error {
	if !strings.HasPrefix(path, t.reference) {
		return os.WriteFile(path, t.body, 0o640)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(t.body)
	return errors.Join(err, f.Sync(), f.Close())
}

func (t *table) operations() {
	path := func(dir string, i int) string { return fmt.Sprintf("%s/%d.conf", dir, i%300) }
	t.row("create + write + close 700 B", "≤ 850 µs", 300, func(dir string, i int) error { return t.save(path(dir, i)) })
	t.row("tmp + rename", "≤ 1,085 µs", 300, func(dir string, i int) error {
		if err := t.save(path(dir, i) + ".tmp.1"); err != nil {
			return err
		}
		return os.Rename(path(dir, i)+".tmp.1", path(dir, i))
	})
	t.row("mkdir + rmdir (reference: not durable)", "≤ 1,330 µs", 300, func(dir string, _ int) error {
		if err := os.Mkdir(dir+"/lock", 0o755); err != nil {
			return err
		}
		return os.Remove(dir + "/lock")
	})
	t.row("read whole file", "≤ 75 µs", 6000, func(dir string, i int) error { _, err := os.ReadFile(path(dir, i)); return err })
	t.row("stat", "≤ 2 µs", 6000, func(dir string, i int) error {
		var s unix.Stat_t
		return unix.Stat(path(dir, i), &s)
	})
	t.row("readdir of 300", "≤ 218 µs", 100, func(dir string, _ int) error { _, err := os.ReadDir(dir); return err })
}

func (t *table) parallel() {
	const writers, each = 8, 300
	var rate [2]float64
	for k, dir := range []string{t.n.path("bench"), filepath.Join(t.reference, "bench")} {
		begin := time.Now()
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := t.save(fmt.Sprintf("%s/p%d-%d", dir, w, i)); err != nil {
						t.b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		rate[k] = writers * each / time.Since(begin).Seconds()
	}
	fmt.Fprintf(&t.rows, "| 8 parallel writers | %.0f/s | %.0f/s | %.2f | ≥ 2,457/s |\n", rate[0], rate[1], rate[0]/rate[1])
}

// bytesPerSave reads what the daemon has had written to disk.
func (t *table) bytesPerSave() {
	for _, c := range []struct {
		size   int
		wanted string
	}{{100, "≤ 8.3 K"}, {700, "≤ 8.4 K"}, {64 << 10, "≤ 2.2 ×"}, {500 << 10, "≤ 2.2 ×"}} {
		const saves = 50
		before := t.n.written()
		for range saves {
			t.must(os.WriteFile(t.n.path("bench/size"), noise(c.size), 0o640))
		}
		per := float64(t.n.written()-before) / saves
		t.say(fmt.Sprintf("bytes to disk, save of %d B", c.size), fmt.Sprintf("%.0f (%.2f ×)", per, per/float64(c.size)), "", c.wanted)
	}
}

// full fills the tree with 10,000 files of 3,000 bytes and starts again.
func (t *table) full() {
	t.must(os.RemoveAll(t.n.path("bench")))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for d := w; d < 100; d += 8 {
				dir := t.n.path(fmt.Sprintf("full%d", d))
				err := os.Mkdir(dir, 0o755)
				for i := range 100 {
					err = errors.Join(err, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), noise(3000), 0o640))
				}
				if err != nil {
					t.b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.say("RSS with 30 MB in 10,000 files", fmt.Sprintf("%.1f MB", t.n.resident()), "", "≤ 75 MB")
	t.n.cmd.Process.Signal(os.Interrupt)
	t.must(t.n.end())
	begin := time.Now()
	t.n.start()
	t.say("start with 10,000 files", time.Since(begin).Round(time.Millisecond).String(), "", "≤ 150 ms")
	t.say("RSS after that start", fmt.Sprintf("%.1f MB", t.n.resident()), "", "≤ 75 MB")
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
