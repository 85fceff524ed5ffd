package bell

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// rest is how long a bell that died is left alone before another is started.
const rest = time.Second

// maxBatch is how many modifications are rung together.
const maxBatch = 64

// A Ringer keeps a bell running. One goroutine rings; Thread and Kill may be
// called by any.
type Ringer struct {
	executable string
	mount      Mount
	log        *slog.Logger
	thread     atomic.Uint32 // of the bell; 0 = none is running

	mu      sync.Mutex // guards what follows
	bell    *Bell
	started time.Time
	killed  bool

	modified []Ring // modifications to be rung together
}

// Start starts the bell of a mount. Without an executable there is none.
func (r *Ringer) Start(executable string, mount Mount, log *slog.Logger) {
	r.executable, r.mount, r.log = executable, mount, log
	r.restart()
}

// restart starts a bell if there is none and it is time.
func (r *Ringer) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.executable == "" || r.killed || r.bell != nil || time.Since(r.started) < rest {
		return
	}
	r.started = time.Now()
	b, err := Start(r.executable, r.mount)
	if err != nil {
		r.log.Error("inotify will not see remote changes", "err", err)
		return
	}
	r.bell = b
	r.thread.Store(b.Thread())
}

// Modify collects a modification, once for each file. It is rung with Flush, or
// when there are many.
func (r *Ringer) Modify(ring Ring) {
	for _, m := range r.modified {
		if m == ring {
			return
		}
	}
	r.modified = append(r.modified, ring)
	if len(r.modified) == maxBatch {
		r.Flush()
	}
}

// Flush rings the modifications that were collected.
func (r *Ringer) Flush() {
	if len(r.modified) > 0 {
		r.Send(r.modified...)
		r.modified = r.modified[:0]
	}
}

// Send rings, and once more if the bell had to be started again.
func (r *Ringer) Send(rings ...Ring) {
	for range 2 {
		r.restart()
		r.mu.Lock()
		b := r.bell
		r.mu.Unlock()
		if b == nil {
			return
		}
		err := b.Ring(rings...)
		if err == nil {
			return
		}
		r.mu.Lock()
		quiet := r.killed
		r.bell = nil
		r.mu.Unlock()
		r.thread.Store(0)
		b.Stop()
		if !quiet {
			r.log.Warn("the bell has to be started again", "err", err)
		}
	}
}

// Kill makes a ring in progress fail, for ever.
func (r *Ringer) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.bell != nil {
		r.bell.Kill()
	}
}

// Stop ends the bell and waits for it.
func (r *Ringer) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.bell != nil {
		r.thread.Store(0)
		r.bell.Stop()
		r.bell = nil
	}
}

// Thread returns the thread that the bell's requests come from, 0 if there is none.
func (r *Ringer) Thread() uint32 { return r.thread.Load() }
