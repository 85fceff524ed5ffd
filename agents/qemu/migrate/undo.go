package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcpve/agents/guest"
	"etcpve/agents/qemu/state"
	config "etcpve/cfs/format/guest"
)

// undoWait is how long a repair is tried that fails: QEMU may be busy. Where the
// tree takes no changes, the task's agent repeats it later.
const undoWait = time.Minute

// persist undoes a migration, or completes one that cannot be undone any more.
func (j job) persist(ctx context.Context) error {
	for end := time.Now().Add(undoWait); ; time.Sleep(undoPoll) {
		err := j.repairMigrate(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not cleaned up: %w", err)
		}
		j.log.Printf("not cleaned up yet: %s", err)
	}
}

// repairMigrate brings the VM and this node to where its configuration is. It may
// be repeated.
func (j job) repairMigrate(ctx context.Context) error {
	node, c, err := j.where(ctx)
	switch {
	case err != nil || c == nil || j.text(keySession) == "": // without one, nothing was begun
		return err
	case node == j.text("target"):
		return j.leave(ctx, node)
	case node != j.Node:
		return nil
	case c.Main.Get("lock") != guest.LockMigrate:
		return nil
	}
	return j.stay(ctx)
}

// stay lets the VM go on here as before.
func (j job) stay(ctx context.Context) error {
	running, err := j.Running(ctx, j.vmid)
	if err != nil {
		return err
	}
	if ran := j.text(keyRan); running && ran != "" {
		// First of all the guest goes on: its disks can wait for the end of copies.
		err := state.Abort(ctx, j.talk, ran == "1")
		if err = errors.Join(err, j.endCopies(ctx), j.settings(ctx, false)); err != nil {
			return err
		}
	}
	return j.Edit(ctx, j.vmid, func(c *config.Config) error {
		text, err := j.Read(ctx, j.Path(j.vmid))
		if err != nil {
			return err
		}
		if config.Digest(string(text)) == j.text(keyRewrite) {
			back := map[string]string{}
			for old, now := range j.pairs() {
				back[now] = old
			}
			rename(c, back)
		}
		if c.Main.Get("lock") == guest.LockMigrate {
			c.Main.Delete("lock")
		}
		return nil
	})
}

// pairs are the volumes that were copied, with their copies.
func (j job) pairs() map[string]string {
	pairs, all := map[string]string{}, j.words(keyMoved)
	for i := 0; i+1 < len(all); i += 2 {
		pairs[all[i]] = all[i+1]
	}
	return pairs
}

// leave removes from this node what has moved to another one.
func (j job) leave(ctx context.Context, node string) error {
	if c, err := j.on(node).Load(ctx, j.vmid); err == nil && c.Main.Get("lock") == guest.LockMigrate {
		if err := j.unlock(ctx, node); err != nil {
			return err
		}
	}
	if err := j.Arrivals.Discard(ctx, j.vmid); err != nil {
		return err
	}
	var old []string
	for volume := range j.pairs() {
		old = append(old, volume)
	}
	if err := j.free(ctx, old); err != nil {
		j.log.Printf("%s", err)
	}
	return nil
}
