package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxRounds is how often a run plans anew before it gives up: what one round
// brings to light, such as a device that appears only after a reboot, the next
// can act on, but a plan that never empties is an agent's error.
const maxRounds = 5

// A runner does one run of one key for an agent.
type runner[D, O any, A fmt.Stringer] struct {
	agent  Agent[D, O, A]
	tree   tree
	status Publisher
	log    *slog.Logger
}

// run brings key to its desired state and publishes the outcome.
func (r *runner[D, O, A]) run(ctx context.Context, key string) (again time.Duration, err error) {
	desired, observed, err := r.settle(ctx, key)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	report := r.agent.Report(key, desired, observed, err)
	if e := r.status.Publish(report, err); e != nil {
		r.log.Warn("status not published", "key", key, "path", report.Path, "err", e)
	}
	return report.Again, err
}

// settle plans and applies until the plan is empty.
func (r *runner[D, O, A]) settle(ctx context.Context, key string) (desired D, observed O, err error) {
	for range maxRounds {
		var plan []A
		desired, observed, plan, err = r.plan(ctx, key)
		if err != nil || len(plan) == 0 {
			return desired, observed, err
		}
		if err = r.apply(ctx, key, plan); err != nil {
			// What did succeed shows in the next observation, which the report needs.
			if o, e := r.agent.Observe(ctx, key); e == nil {
				observed = o
			}
			return desired, observed, err
		}
	}
	_, _, plan, err := r.plan(ctx, key)
	if err == nil && len(plan) > 0 {
		err = fmt.Errorf("%s: still to do after %d rounds: %s", key, maxRounds, strings.Join(texts(plan), ", "))
	}
	return desired, observed, err
}

func (r *runner[D, O, A]) plan(ctx context.Context, key string) (desired D, observed O, plan []A, err error) {
	if desired, err = r.desired(ctx, key); err != nil {
		// The observation is for the report; its own failure would only hide the cause.
		observed, _ = r.agent.Observe(ctx, key)
		return desired, observed, nil, err
	}
	if observed, err = r.agent.Observe(ctx, key); err != nil {
		return desired, observed, nil, err
	}
	return desired, observed, r.agent.Plan(desired, observed), nil
}

// desired reads the files between two looks at the tree: while the tree is not
// mounted, an absent file says nothing about what is desired.
func (r *runner[D, O, A]) desired(ctx context.Context, key string) (desired D, err error) {
	if err = r.tree.present(); err != nil {
		return desired, err
	}
	if desired, err = r.agent.Desired(ctx, key); err != nil {
		return desired, err
	}
	return desired, r.tree.present()
}

func (r *runner[D, O, A]) apply(ctx context.Context, key string, plan []A) (err error) {
	for _, action := range plan {
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		r.log.Info("apply", "key", key, "action", action.String())
		if e := r.agent.Apply(ctx, key, action); e != nil {
			r.log.Error("action failed", "key", key, "action", action.String(), "err", e)
			err = errors.Join(err, e)
			var last *abandoned
			if errors.As(e, &last) {
				break
			}
		}
	}
	return err
}

// preview returns the plan for key as text.
func (r *runner[D, O, A]) preview(ctx context.Context, key string) ([]string, error) {
	_, _, plan, err := r.plan(ctx, key)
	return texts(plan), err
}

func texts[A fmt.Stringer](plan []A) (out []string) {
	for _, action := range plan {
		out = append(out, action.String())
	}
	return out
}

// A tree knows how to tell a mounted cluster file system, or a directory laid
// out like one, from the empty directory it is mounted on.
type tree struct{ root, node string }

func (t tree) present() error {
	if _, err := os.Stat(filepath.Join(t.root, "nodes", t.node)); err != nil {
		return fmt.Errorf("%s: no tree with node %s is mounted here: %w", t.root, t.node, err)
	}
	return nil
}
