package cfstest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"etcpve/cfs/database"
	"etcpve/cfs/tree"
)

// sqlite is the real database in a simulation. A crash is one of the process: the
// file stays as it is.
type sqlite struct {
	*database.Database
	stop    context.CancelFunc
	working sync.WaitGroup
}

func (s *sqlite) halt() {
	s.stop()
	s.working.Wait()
	_ = s.Abandon() // the next start looks at what is there
}

// TestSimulatedClusterOnSQLite runs some seeds with the real database.
func TestSimulatedClusterOnSQLite(t *testing.T) {
	withBubbleRandom(t)
	for seed := range uint64(3) {
		dir := t.TempDir()
		a := simulate(t, scenario{seed: 1_000_000 + seed, engine: func(m *member, into *tree.Tree) (engine, error) {
			db, err := database.Open(filepath.Join(dir, fmt.Sprint(m.id)), into, database.Options{FlushEntries: 8})
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithCancel(context.Background())
			s := &sqlite{Database: db, stop: cancel}
			s.working.Go(func() {
				if err := db.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("database of node %d: %v", m.id, err)
				}
			})
			return s, nil
		}})
		for _, f := range a.failures {
			t.Errorf("seed %d: %s", 1_000_000+seed, f)
		}
	}
}
