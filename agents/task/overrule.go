package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// StopAll asks for the end of all tasks of a node that do the same work, waits
// until they have ended, and returns how many there were.
func StopAll(ctx context.Context, tree, node, kind, id string) (n int, err error) {
	dir := filepath.Join(tree, Dir(node))
	asked := map[string]bool{}
	for {
		going, err := atWork(dir, kind, id)
		if err != nil || len(going) == 0 {
			return len(asked), err
		}
		for _, name := range going {
			if asked[name] {
				continue
			}
			if err := stop(filepath.Join(dir, name)); err != nil {
				return len(asked), fmt.Errorf("stop %s: %w", name, err)
			}
			asked[name] = true
		}
		select {
		case <-time.After(askPoll):
		case <-ctx.Done():
			return len(asked), fmt.Errorf("%d of %d tasks of type %s go on: %w", len(going), len(asked), kind, ctx.Err())
		}
	}
}

// atWork names the claimed tasks of a kind that have not ended.
func atWork(dir, kind, id string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // renamed or removed meanwhile
		}
		f := parseFile(e.Name(), string(text))
		if f.UPID.Type != "" && f.Status == "" && f.Request.Type == kind && f.Request.ID == id {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
