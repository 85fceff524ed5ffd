package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Back-off of a failing key: the first retry after minBackoff, each further one
// after twice as long up to maxBackoff, each shortened by up to a fifth at
// random so that keys that failed together do not retry together.
const (
	minBackoff = time.Second
	maxBackoff = 2 * time.Minute
)

// A queue runs keys: one worker per key, at most so many at the same time.
// Adding a key that waits or runs already makes for one more run, not for one
// per add.
type queue struct {
	run    func(ctx context.Context, key string) (again time.Duration, err error)
	settle time.Duration
	slots  chan struct{}
	log    *slog.Logger
	wg     sync.WaitGroup

	mu      sync.Mutex // guards workers and the failures of each
	workers map[string]*worker
}

// A worker exists while its key has something to do or to wait for.
type worker struct {
	wake     chan struct{} // holds one token: run soon
	failures int           // since the last success or fresh event
}

func newQueue(o Options, run func(context.Context, string) (time.Duration, error)) *queue {
	return &queue{
		run:     run,
		settle:  o.Settle,
		slots:   make(chan struct{}, o.Parallel),
		log:     o.Log.With("agent", o.Name),
		workers: map[string]*worker{},
	}
}

// add asks for a run of key. A fresh add means that a file has changed: what
// failed before may work now, so it ends a back-off.
func (q *queue) add(ctx context.Context, key string, fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.workers[key]
	if w == nil {
		w = &worker{wake: make(chan struct{}, 1)}
		q.workers[key] = w
		q.wg.Go(func() { q.work(ctx, key, w) })
	}
	if fresh {
		w.failures = 0
	}
	if w.failures == 0 {
		w.rouse()
	}
}

// wait returns when all workers have ended, which they do once their context ends.
func (q *queue) wait() { q.wg.Wait() }

// rouse leaves the token in wake, where it may lie already.
func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (q *queue) work(ctx context.Context, key string, w *worker) {
	for pause := time.Duration(1<<63 - 1); ; {
		if !w.await(ctx, pause, q.settle) {
			return
		}
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		again, err := q.run(ctx, key)
		<-q.slots
		if ctx.Err() != nil {
			return
		}
		var more bool
		if pause, more = q.next(key, w, again, err); !more {
			return
		}
	}
}

// await returns true when the token has come, or pause is over, and a burst of
// tokens has settled.
func (w *worker) await(ctx context.Context, pause, settle time.Duration) bool {
	select {
	case <-w.wake:
	case <-time.After(pause):
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return false
	}
	select {
	case <-w.wake:
	default:
	}
	return true
}

// next decides how a worker goes on after a run, if it does.
func (q *queue) next(key string, w *worker, again time.Duration, err error) (pause time.Duration, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		w.failures++
		pause = backoff(w.failures)
		q.log.Warn("key failed", "key", key, "retry", pause.Round(time.Millisecond), "err", err)
		return pause, true
	}
	w.failures = 0
	switch {
	case len(w.wake) > 0:
		return 0, true
	case again > 0:
		return again, true
	}
	delete(q.workers, key)
	return 0, false
}

func backoff(failures int) time.Duration {
	d := maxBackoff
	if shift := failures - 1; shift < 16 {
		d = min(minBackoff<<shift, maxBackoff)
	}
	return d - rand.N(d/5)
}
