package blockjob

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// poll is how often block jobs are looked at: a guest may stand still meanwhile.
const poll = 50 * time.Millisecond

// cancelWait is how long jobs may take to end.
const cancelWait = time.Minute

// A Set is the block jobs of a running QEMU whose names begin alike, and the nodes
// that they write to, whose names do too.
type Set struct {
	Prefix string
	Talk   func(ctx context.Context, command string, args map[string]any, result any) error // one QMP command
}

// A Progress is one job as QEMU tells of it.
type Progress struct {
	ID      string
	Status  string
	Current int64 `json:"current-progress"` // of Total, bytes
	Total   int64 `json:"total-progress"`
	Error   string
}

// List returns the jobs.
func (s Set) List(ctx context.Context) (mine []Progress, err error) {
	var all []Progress
	if err := s.Talk(ctx, "query-jobs", nil, &all); err != nil {
		return nil, err
	}
	for _, p := range all {
		if strings.HasPrefix(p.ID, s.Prefix) {
			mine = append(mine, p)
		}
	}
	return mine, nil
}

// Await waits until done says so of each job; an error ends it. Say is told of each
// job's tenths.
func (s Set) Await(ctx context.Context, done func(Progress) (bool, error), say func(name, progress string)) error {
	told := map[string]int64{}
	for {
		all, err := s.List(ctx)
		if err != nil {
			return err
		}
		waits := false
		for _, p := range all {
			ready, err := done(p)
			if err != nil {
				return err
			}
			waits = waits || !ready
			if tenth := p.Current * 10 / max(p.Total, 1); p.Total > 0 && tenth > told[p.ID] {
				told[p.ID] = tenth
				say(s.Name(p), fmt.Sprintf("transferred %d of %d bytes (%d%%)", p.Current, p.Total, p.Current*100/p.Total))
			}
		}
		if !waits {
			return nil
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

// Name returns a job's name without what all begin with.
func (s Set) Name(p Progress) string { return strings.TrimPrefix(p.ID, s.Prefix) }

// Cancel ends all jobs as they are, and returns when there is none.
func (s Set) Cancel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	for {
		all, err := s.List(ctx)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, p := range all {
			verb, args := "job-cancel", map[string]any{"id": p.ID}
			switch p.Status {
			case "concluded":
				verb = "job-dismiss"
			case "ready", "running", "standby", "paused":
				verb, args = "block-job-cancel", map[string]any{"device": p.ID, "force": true}
			}
			// It may have come further meanwhile; the next look tells.
			_ = s.Talk(ctx, verb, args, nil)
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

// Close lets go of the nodes that jobs wrote to, and returns what QEMU refuses: a
// node that a disk uses now stays.
func (s Set) Close(ctx context.Context) (refusals []error, err error) {
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := s.Talk(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if !strings.HasPrefix(n.Name, s.Prefix) {
			continue
		}
		if err := s.Talk(ctx, "blockdev-del", map[string]any{"node-name": n.Name}, nil); err != nil {
			refusals = append(refusals, err)
		}
	}
	return refusals, nil
}

// rest waits for the next look.
func rest(ctx context.Context) error {
	select {
	case <-time.After(poll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
