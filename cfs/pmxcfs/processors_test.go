package main

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
)

// shelf is a storage that takes everything.
type shelf struct{ consensus.Storage }

func (shelf) Append(command.HardState, []command.Entry) error { return nil }

func TestChangesThatComeTogetherGetMoreProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []int
		p := &processors{set: func(n int) { set = append(set, n) }, many: 3, used: 1}
		w := watched{shelf{}, p}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.calm(ctx)
		}()
		save := func(together int) {
			t.Helper()
			if err := w.Append(command.HardState{}, make([]command.Entry, together)); err != nil {
				t.Error(err)
			}
		}
		expect := func(when string, want ...int) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if !slices.Equal(set, want) {
				t.Errorf("%s: %v, want %v", when, set, want)
			}
		}
		save(1)
		save(0)
		expect("one at a time")
		for range 10 { // for longer than the calm takes
			save(2)
			time.Sleep(calmAfter / 2)
			save(1)
		}
		expect("together", 3)
		time.Sleep(3 * calmAfter)
		expect("calm again", 3, 1)
		cancel()
		<-done
	})
}
