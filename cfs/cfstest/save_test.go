package cfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/database"
	"etcpve/cfs/tree"
)

// start runs a node that the test stops by itself or at its end.
func start(tb testing.TB, path string, opt database.Options) *Node {
	tb.Helper()
	n, err := Start(tb.Context(), path, opt)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func stop(tb testing.TB, n *Node) {
	tb.Helper()
	if err := n.Stop(); err != nil {
		tb.Fatal(err)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestSavesSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	ctx := t.Context()
	big := noise(50_000)
	n := start(t, path, database.Options{})
	must(t, n.Do(ctx, &command.Command{Op: command.Mkdir, Path: "d"}))
	must(t, n.Save(ctx, "d/a", []byte("one")))
	must(t, n.Save(ctx, "d/a", []byte("two")))
	must(t, n.Save(ctx, "d/big", big))
	must(t, n.Save(ctx, "d/empty", nil))
	version := n.Tree.Version()
	stop(t, n)

	n = start(t, path, database.Options{})
	defer stop(t, n)
	for name, want := range map[string][]byte{"d/a": []byte("two"), "d/big": big, "d/empty": nil} {
		if e, ok := n.Tree.Lookup(name); !ok || !bytes.Equal(e.Data, want) {
			t.Errorf("%s has %d bytes after the restart, want %d", name, len(e.Data), len(want))
		}
	}
	if n.Tree.Version() != version {
		t.Errorf("version %d after the restart, want %d", n.Tree.Version(), version)
	}
}

// TestALoneNodeStartsInMilliseconds measures in a bubble, whose clock stands still
// while the node works or its disk does: what is left is what the node waits for.
func TestALoneNodeStartsInMilliseconds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	stop(t, start(t, path, database.Options{}))
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		n := start(t, path, database.Options{})
		defer stop(t, n)
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Errorf("quorate after %v", d)
		}
	})
}

func TestARefusalIsAResult(t *testing.T) {
	n := start(t, filepath.Join(t.TempDir(), "config.db"), database.Options{})
	defer stop(t, n)
	if err := n.Save(t.Context(), "no/where", nil); !errors.Is(err, tree.ErrNotExist) {
		t.Errorf("save into a missing directory: %v", err)
	}
	must(t, n.Save(t.Context(), "a", nil))
}

func TestARepeatedCommandCountsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	n := start(t, path, database.Options{})
	c := &command.Command{ID: 42, Op: command.Write, Path: "a", Data: []byte("x"), Exclusive: true}
	first, err := n.Consensus.Propose(t.Context(), c)
	must(t, err)
	again, err := n.Consensus.Propose(t.Context(), c)
	must(t, err)
	if first.Err != nil || again != first {
		t.Errorf("the second answer is %+v, want %+v", again, first)
	}
	stop(t, n)
	n = start(t, path, database.Options{})
	defer stop(t, n)
	if again, err = n.Consensus.Propose(t.Context(), c); err != nil || again != first {
		t.Errorf("after a restart the answer is %+v, want %+v", again, first)
	}
}

func TestManyWritersShareTheLog(t *testing.T) {
	n := start(t, filepath.Join(t.TempDir(), "config.db"), database.Options{})
	defer stop(t, n)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 50 {
				if err := n.Save(t.Context(), fmt.Sprintf("f%d-%d", w, i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if _, files := n.Tree.Usage(); files != 400 {
		t.Errorf("%d files, want 400", files)
	}
}

// noise returns content that does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// written returns how many bytes this process has sent to the disk.
func written(tb testing.TB) (n int64) {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/io")
	must(tb, err)
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	tb.Fatal("no write_bytes in /proc/self/io")
	return 0
}

// onDisk is a directory on a real disk, where write_bytes counts.
func onDisk(tb testing.TB) string {
	dir, err := os.MkdirTemp("/var/tmp", "etcpve-bench-")
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func BenchmarkSave(b *testing.B) {
	for _, size := range []int{100, 700, 64 << 10, 500 << 10} {
		for _, same := range []bool{true, false} {
			b.Run(fmt.Sprintf("%dB/same=%v", size, same), func(b *testing.B) { benchmarkSave(b, size, same) })
		}
	}
}

func benchmarkSave(b *testing.B, size int, same bool) {
	n := start(b, filepath.Join(onDisk(b), "config.db"), database.Options{})
	content := noise(size)
	must(b, n.Save(b.Context(), "f", content))
	must(b, n.Database.Flush(b.Context()))
	before := written(b)
	b.ResetTimer()
	for i := range b.N {
		name := "f"
		if !same {
			name = fmt.Sprintf("f%d", i%(20<<20/size))
		}
		must(b, n.Save(b.Context(), name, content))
	}
	b.StopTimer()
	must(b, n.Database.Flush(b.Context()))
	b.ReportMetric(float64(written(b)-before)/float64(b.N), "disk-B/op")
	b.ReportMetric(float64(written(b)-before)/float64(b.N*size), "disk/saved")
	stop(b, n)
}

func BenchmarkEightWriters(b *testing.B) {
	n := start(b, filepath.Join(onDisk(b), "config.db"), database.Options{})
	defer stop(b, n)
	content := noise(700)
	b.ResetTimer()
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := w; i < b.N; i += 8 {
				if err := n.Save(context.Background(), fmt.Sprintf("f%d", i%10000), content); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "saves/s")
}

func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(onDisk(b), "config.db")
	n := start(b, path, database.Options{})
	content := noise(3000)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := w; i < 10_000; i += 8 {
				if err := n.Save(context.Background(), fmt.Sprintf("f%d", i), content); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop(b, n)
	for b.Loop() {
		stop(b, start(b, path, database.Options{}))
	}
}
