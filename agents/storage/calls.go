package storage

import (
	"context"
	"fmt"
	"sync"
)

// Calls are the calls of plugins that have not returned yet. The zero value is
// ready.
//
// A system call on a file system whose server is gone cannot be interrupted. So
// nobody waits for a plugin longer than its context lasts, and while a call on a
// storage hangs no other one is begun: each would hang as well.
type Calls struct {
	mu      sync.Mutex // guards hanging
	hanging map[string]bool
}

// Bounded calls f for a storage and comes back when it has returned or ctx ends,
// whichever is first.
func Bounded[T any](ctx context.Context, c *Calls, id string, f func(context.Context) (T, error)) (T, error) {
	var nothing T
	if !c.begin(id) {
		return nothing, fmt.Errorf("an earlier call still waits for the storage: %w", ErrOffline)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1) // the call ends even if nobody waits for it any more
	go func() {
		value, err := f(ctx)
		c.end(id)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return nothing, fmt.Errorf("%w: %w", ErrOffline, ctx.Err())
	}
}

func (c *Calls) begin(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hanging[id] {
		return false
	}
	if c.hanging == nil {
		c.hanging = map[string]bool{}
	}
	c.hanging[id] = true
	return true
}

func (c *Calls) end(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.hanging, id)
}
