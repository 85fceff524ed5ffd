package storage_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
)

// stuck is a type of storage whose server is gone: a call returns once the
// server is back, whatever its context says.
type stuck struct {
	*storagetest.Memory
	back  chan struct{}
	calls *atomic.Int32
}

func (s stuck) Status(context.Context, *storage.Config) (storage.Status, error) {
	s.calls.Add(1)
	<-s.back
	return storage.Status{Total: 1}, nil
}

func TestStuckStorageHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		p := stuck{Memory: &storagetest.Memory{}, back: make(chan struct{}), calls: &calls}
		c, _ := newCatalog(t, thin+"nfs: gone\n\tserver s\n\texport /x\n\tpath /y\n")
		c.Plugins["nfs"] = p
		a := storage.NewAgent(storage.Options{Catalog: c, Log: slog.New(slog.DiscardHandler)})
		w, err := a.Desired(t.Context(), storage.File)
		if err != nil {
			t.Fatal(err)
		}
		for _, action := range a.Plan(w, nil) {
			if err := a.Apply(t.Context(), storage.File, action); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		var seen map[string]storage.Seen
		for range 2 {
			seen, err = a.Observe(t.Context(), storage.File)
		}
		if err != nil || !errors.Is(seen["gone"].Err, storage.ErrOffline) || seen["thin"].Err != nil || seen["thin"].Status.Total == 0 {
			t.Errorf("%+v, %v", seen, err)
		}
		if waited := time.Since(begun); waited > 30*time.Second || calls.Load() != 1 {
			t.Errorf("waited %v in %d calls", waited, calls.Load())
		}
		close(p.back)
		synctest.Wait()
		seen, err = a.Observe(t.Context(), storage.File)
		if err != nil || seen["gone"].Err != nil || seen["gone"].Status.Total != 1 {
			t.Errorf("back again: %+v, %v", seen, err)
		}
	})
}
