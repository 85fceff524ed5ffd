package cfstest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// do proposes at a node and lets time pass until there is an answer.
func (w *world) do(id uint64, c *command.Command) (tree.Result, error) {
	var r tree.Result
	var err error
	done := false
	w.deeds++
	c.ID, c.Writer = w.deeds, uint32(id)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.after(0, func() {
		go func() {
			r, err = w.members[id].run.node.Propose(ctx, c)
			done = true
		}()
	})
	for end := w.now() + 30*time.Second; !done && w.now() < end; {
		w.runUntil(w.now() + time.Millisecond)
	}
	if !done {
		return r, context.DeadlineExceeded
	}
	return r, err
}

func (w *world) mustDo(t *testing.T, id uint64, c *command.Command) {
	t.Helper()
	if r, err := w.do(id, c); err != nil || r.Err != nil {
		t.Fatalf("%v %s: %v, %v", c.Op, c.Path, r.Err, err)
	}
}

// makeDirs makes directories that the rules ask for.
func (w *world) makeDirs(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		w.mustDo(t, 1, &command.Command{Op: command.Mkdir, Path: path})
	}
}

// TestALockOfADeadHolderExpires has two nodes want one lock whose holder is cut
// off. Their clocks are hours apart.
func TestALockOfADeadHolderExpires(t *testing.T) {
	withBubbleRandom(t)
	const path = layout.LockDir + "/storage"
	for seed := range uint64(6) {
		formed(t, seed, 3, func(w *world) {
			w.makeDirs(t, "priv", layout.LockDir)
			w.runUntil(w.now() + time.Second)
			watch := map[uint64]*tree.Locks{}
			for id := uint64(2); id <= 3; id++ {
				watch[id] = tree.NewLocks(w.members[id].run.tree, w.now)
			}
			clock := map[uint64]int64{1: 1e6, 2: 1e6 - 7200, 3: 1e6 + 7200}
			w.mustDo(t, 1, &command.Command{Op: command.Mkdir, Path: path, Time: clock[1]})
			renewed := w.now()
			for range seed { // a holder that lives renews
				w.runUntil(w.now() + 100*time.Second)
				for id, l := range watch {
					if _, expired := l.Expired(path); expired {
						t.Errorf("seed %d: node %d takes a renewed lock for expired", seed, id)
					}
				}
				clock[1] += 100
				w.mustDo(t, 1, &command.Command{Op: command.Touch, Path: path, Time: clock[1]})
				renewed = w.now()
			}
			w.isolate(1)
			taken := w.contend(t, path, watch, clock)
			if after := taken - renewed; after < layout.LockLifetime || after > layout.LockLifetime+5*time.Second {
				t.Errorf("seed %d: taken after %v", seed, after)
			}
			if _, err := w.do(1, &command.Command{Op: command.Touch, Path: path, Time: clock[1] + 500}); !errors.Is(err, consensus.ErrNoQuorum) {
				t.Errorf("seed %d: the old holder still renews: %v", seed, err)
			}
			clear(w.net.cut)
			w.runUntil(w.now() + 10*time.Second)
			if r, err := w.do(1, &command.Command{Op: command.Touch, Path: path, Time: clock[1] + 1000}); err != nil || !errors.Is(r.Err, tree.ErrAccess) {
				t.Errorf("seed %d: who lost a lock renews it: %v, %v", seed, r.Err, err)
			}
			w.runUntil(w.now() + time.Second)
		})
	}
}

// contend lets nodes ask for a lock every second until one has it.
func (w *world) contend(t *testing.T, path string, watch map[uint64]*tree.Locks, clock map[uint64]int64) time.Duration {
	t.Helper()
	for end := w.now() + 5*time.Minute; w.now() < end; w.runUntil(w.now() + time.Second) {
		got := 0
		for id := uint64(2); id <= 3; id++ {
			if version, expired := watch[id].Expired(path); expired {
				if _, err := w.do(id, &command.Command{Op: command.Unlock, Path: path, Expect: version}); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := w.do(id, &command.Command{Op: command.Mkdir, Path: path, Time: clock[id]}); err == nil && r.Err == nil {
				got++
			}
		}
		if got > 1 {
			t.Fatal("both contenders hold the lock")
		}
		if got == 1 {
			return w.now()
		}
	}
	t.Fatal("the lock never expired")
	return 0
}

// TestAFullTreeStaysFullEverywhere fills the tree while nodes crash, and one is so
// far behind that it gets all of it at once.
func TestAFullTreeStaysFullEverywhere(t *testing.T) {
	withBubbleRandom(t)
	formed(t, 1, 3, func(w *world) {
		full, behind := 0, uint64(3)
		for i := range layout.MaxTotal/layout.MaxFile + 4 {
			switch i {
			case 5:
				w.crash(w.members[behind], never)
			case 25:
				for _, id := range []uint64{1, 2} {
					w.members[id].run.mem.flush()
					w.members[id].run.mem.trim()
				}
				w.boot(w.members[behind])
			}
			r, err := w.do(1+uint64(i%2), &command.Command{Op: command.Write, Path: fmt.Sprint("f", i), Data: make([]byte, layout.MaxFile)})
			switch {
			case err != nil:
				t.Fatal(err)
			case errors.Is(r.Err, tree.ErrNoSpace):
				full++
			case r.Err != nil:
				t.Fatal(r.Err)
			}
		}
		if full != 4 {
			t.Errorf("%d files were refused, want 4", full)
		}
		w.runUntil(w.now() + 5*time.Second)
		for _, id := range w.ids() {
			if bytes, _ := w.members[id].run.tree.Usage(); bytes != layout.MaxTotal {
				t.Errorf("node %d has %d bytes", id, bytes)
			}
			checkTree(w, w.members[id].run)
		}
		w.mustDo(t, behind, &command.Command{Op: command.Remove, Path: "f0"})
		w.mustDo(t, 1, &command.Command{Op: command.Write, Path: "again", Data: make([]byte, layout.MaxFile)})
		w.runUntil(w.now() + time.Second)
	})
}
