package mount

import (
	"fmt"
	"os"
	"testing"
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
