package pvesm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"etcpve/agents/storage"
)

// patience is how long a storage may take to say how full it is.
const patience = 20 * time.Second

// observe asks all storages at the same time; those that do not answer are
// absent from the result.
func (p Place) observe(ctx context.Context, configs []*storage.Config) map[string]storage.Status {
	found := map[string]storage.Status{}
	var calls storage.Calls
	var mu sync.Mutex // guards found
	var all sync.WaitGroup
	for _, s := range configs {
		plugin := p.Plugins[s.Type]
		if plugin == nil || !s.Enabled() {
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			status, err := storage.Bounded(ctx, &calls, s.ID, func(ctx context.Context) (storage.Status, error) {
				if err := plugin.Activate(ctx, s); err != nil {
					return storage.Status{}, err
				}
				return plugin.Status(ctx, s)
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				found[s.ID] = status
			}
		})
	}
	all.Wait()
	return found
}

func printStatus(out io.Writer, configs []*storage.Config, found map[string]storage.Status) {
	slices.SortFunc(configs, func(a, b *storage.Config) int { return cmp.Compare(a.ID, b.ID) })
	width := 0
	for _, s := range configs {
		width = max(width, len(s.ID))
	}
	width++
	fmt.Fprintf(out, "%-*s %10s %10s %15s %15s %15s %8s\n", width, "Name", "Type", "Status", "Total (KiB)", "Used (KiB)", "Available (KiB)", "%")
	for _, s := range configs {
		status, active := found[s.ID]
		word, share := "inactive", fmt.Sprintf("% 7.2f%%", percent(status))
		switch {
		case !s.Enabled():
			word, share = "disabled", fmt.Sprintf("%8s", "N/A")
		case active:
			word = "active"
		}
		fmt.Fprintf(out, "%-*s %10s %10s %15d %15d %15d %s\n", width, s.ID, s.Type, word,
			status.Total>>10, status.Used>>10, status.Available>>10, share)
	}
}

func percent(s storage.Status) float64 {
	if s.Total == 0 {
		return 0
	}
	return float64(s.Used) * 100 / float64(s.Total)
}
