package bell

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// rest is how long a bell that died is left alone before another is started.
const rest = time.Second

// maxBatch is how many modifications are rung together.
const maxBatch = 64

// A Ringer keeps a bell running. One goroutine rings; Thread, IsRunning and Kill
// may be called by any.
type Ringer struct {
	executable string
	mount      Mount
	log        *slog.Logger
	thread     atomic.Uint32 // of the bell; 0 = none is running
	killing    chan struct{} // closed by Kill

	mu      sync.Mutex // guards what follows
	bell    *Bell
	started time.Time
	killed  bool

	collected []Ring // to be rung together
}

// NewRinger returns the ringer of a mount's bell. Start starts it.
func NewRinger() *Ringer { return &Ringer{killing: make(chan struct{})} }

// Start starts the bell of a mount.
func (r *Ringer) Start(executable string, mount Mount, log *slog.Logger) {
	r.executable, r.mount, r.log = executable, mount, log
	r.restart()
}

// restart starts a bell if there is none and it is time.
func (r *Ringer) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed || r.bell != nil || time.Since(r.started) < rest {
		return
	}
	r.started = time.Now()
	b, err := Start(r.executable, r.mount)
	if err != nil {
		r.log.Error("remote changes wait for the bell", "err", err)
		return
	}
	r.bell = b
	r.thread.Store(b.Thread())
}

// Later collects a ring that changes no names, each once. It is rung with Flush,
// or when there are many.
func (r *Ringer) Later(ring Ring) {
	if slices.Contains(r.collected, ring) {
		return
	}
	r.collected = append(r.collected, ring)
	if len(r.collected) == maxBatch {
		r.Flush()
	}
}

// Flush rings what was collected.
func (r *Ringer) Flush() {
	if len(r.collected) > 0 {
		r.Send(r.collected...)
		r.collected = r.collected[:0]
	}
}

// Send rings. If the bell dies meanwhile it is started and rung again, because
// what the kernel remembers is wrong until it has rung; only Kill ends that.
func (r *Ringer) Send(rings ...Ring) {
	for {
		r.restart()
		r.mu.Lock()
		b, killed := r.bell, r.killed
		r.mu.Unlock()
		switch {
		case killed:
			return
		case b == nil:
			r.await()
			continue
		}
		err := b.Ring(rings...)
		if err == nil {
			return
		}
		r.mu.Lock()
		quiet := r.killed
		r.bell = nil
		r.mu.Unlock()
		b.Stop() // its last call may still be on its way, and is recognised until it has ended
		r.thread.Store(0)
		if !quiet {
			r.log.Warn("the bell has to be started again", "err", err)
		}
	}
}

// await waits until another bell may be started.
func (r *Ringer) await() {
	wait := time.NewTimer(rest)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.killing:
	}
}

// Kill makes a ring in progress fail, for ever.
func (r *Ringer) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.killed {
		close(r.killing)
	}
	r.killed = true
	if r.bell != nil {
		r.bell.Kill()
	}
}

// Stop ends the bell and waits for it.
func (r *Ringer) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.killed {
		close(r.killing)
	}
	r.killed = true
	if r.bell != nil {
		r.bell.Stop()
		r.thread.Store(0)
		r.bell = nil
	}
}

// Thread returns the thread that the bell's requests come from, 0 if there is none.
func (r *Ringer) Thread() uint32 { return r.thread.Load() }

// IsRunning reports whether there is a bell.
func (r *Ringer) IsRunning() bool { return r.Thread() != 0 }
