package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestFileNames(t *testing.T) {
	for path, want := range map[string]string{
		"user.cfg": "file-user_cfg", "priv/tfa.cfg": "file-priv_tfa_cfg", "sdn/pve-ipam-state.json": "file-sdn_pve-ipam-state_json",
	} {
		if got := File(path); got != want {
			t.Errorf("File(%q) = %q", path, got)
		}
	}
}

func TestOneHolderAtATime(t *testing.T) {
	tree := t.TempDir()
	var all sync.WaitGroup
	var holders atomic.Int32
	for range 4 {
		all.Go(func() {
			err := With(t.Context(), tree, "domain-ha", func(context.Context) error {
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				time.Sleep(time.Millisecond) // long enough to be met by the others
				holders.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(filepath.Join(tree, "priv/lock/domain-ha")); !os.IsNotExist(err) {
		t.Errorf("not released: %v", err)
	}
}

func TestHeldLockTimesOut(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "priv/lock/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := With(ctx, tree, "x", func(context.Context) error { t.Error("ran without the lock"); return nil })
	if !errors.Is(err, ErrTimeout) || err.Error() != "lock 'x': got lock request timeout" {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(tree, "priv/lock/x")); err != nil {
		t.Errorf("the other's lock: %v", err)
	}
}

func TestFailureReleasesTheLock(t *testing.T) {
	tree, no := t.TempDir(), errors.New("no")
	for range 2 {
		err := With(t.Context(), tree, "x", func(ctx context.Context) error {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > holdLimit {
				t.Error("the work may outlast the lock")
			}
			return no
		})
		if !errors.Is(err, no) {
			t.Errorf("%v", err)
		}
	}
}
