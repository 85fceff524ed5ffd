package consensus

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNodesTickApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, ticks = 7, 20
		begun := time.Now()
		var running sync.WaitGroup
		var at [nodes][]time.Duration
		for i := range nodes {
			time.Sleep(3 * time.Millisecond) // they need not start together
			p := newPulse(uint64(i + 1))
			running.Go(func() {
				defer p.ticker.Stop()
				for range ticks {
					<-p.ticker.C
					p.beat()
					at[i] = append(at[i], time.Since(begun))
				}
			})
		}
		running.Wait()
		for i := range nodes {
			for k := range ticks {
				if k > 0 && at[i][k]-at[i][k-1] != TickEvery {
					t.Fatalf("node %d: tick %d comes %v after the one before", i+1, k, at[i][k]-at[i][k-1])
				}
			}
			for j := range i {
				apart := (at[i][ticks-1]%TickEvery - at[j][ticks-1]%TickEvery).Abs()
				if apart = min(apart, TickEvery-apart); apart < 5*time.Millisecond {
					t.Errorf("nodes %d and %d tick %v apart", j+1, i+1, apart)
				}
			}
		}
	})
}
