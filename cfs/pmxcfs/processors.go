package main

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
)

// mostProcessors is how many processors the daemon ever uses at a time: the others are
// for guests, and changes are made one after the other anyway.
const mostProcessors = 4

// calmAfter is for how long no two changes may have come together before one
// processor is enough again.
const calmAfter = 2 * time.Second

// processors decides how many the daemon uses at a time. A request goes through several
// goroutines, one after the other, and while a processor is idle Go wakes a thread for each
// of them, only to find that there is nothing to do. With one, a read takes half of the
// time, and a save the same time but less of the processors. Several writers gain from
// more: the next changes are taken in while the disk is waited for. GOMAXPROCS in the
// environment is obeyed.
type processors struct {
	set     func(count int) // takes some 0.1 ms, in which everything else stands still
	many    int
	crowded atomic.Bool // since the last look

	mu   sync.Mutex // guards used
	used int
}

func newProcessors() *processors {
	p := &processors{set: func(count int) { runtime.GOMAXPROCS(count) }, many: min(runtime.NumCPU(), mostProcessors)}
	if os.Getenv("GOMAXPROCS") != "" {
		p.set = func(int) {}
	}
	p.use(1)
	return p
}

func (p *processors) use(count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used != count {
		p.used = count
		p.set(count)
	}
}

// crowd tells that changes have come together.
func (p *processors) crowd() {
	p.crowded.Store(true)
	p.use(p.many)
}

// calm goes back to one processor when changes come one at a time, until ctx ends.
func (p *processors) calm(ctx context.Context) {
	tick := time.NewTicker(calmAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !p.crowded.Swap(false) {
			p.use(1)
		}
	}
}

// watched is a storage that tells when several entries share one sync, on whatever node
// they were proposed.
type watched struct {
	consensus.Storage
	processors *processors
}

// Append implements consensus.Storage.
func (w watched) Append(hard command.HardState, entries []command.Entry) error {
	if len(entries) > 1 {
		w.processors.crowd()
	}
	return w.Storage.Append(hard, entries)
}
