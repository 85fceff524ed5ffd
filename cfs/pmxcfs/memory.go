package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// collectAt makes the garbage collector run early: the content of a full tree is
// 30 MB, and twice that should not be needed to hold it.
const collectAt = 25

// A full tree of files of the usual size leaves some 44 MB alive, and many saves at
// once as much again in garbage. The limit keeps the process below 75 MB then. It
// would keep the collector busy for ever where more is alive, as with very many
// small files or while a tree is sent, so it holds only as long as it leaves room.
const (
	memoryLimit = 60 << 20
	mostAlive   = 50 << 20
	lookEvery   = 5 * time.Second
)

// boundMemory limits the memory of the process while that is cheap, until ctx
// ends.
func boundMemory(ctx context.Context) {
	debug.SetGCPercent(collectAt)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for limit := int64(-1); ; {
		metrics.Read(alive)
		want := int64(memoryLimit)
		if alive[0].Value.Uint64() > mostAlive {
			want = math.MaxInt64
		}
		if want != limit {
			debug.SetMemoryLimit(want)
			limit = want
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
