// Package lock takes the cluster's locks: a lock is a directory below priv/lock,
// held by whoever could create it.
//
// It owns the protocol, which is that of the Proxmox VE tools, so that they and
// the agents keep each other out. It never breaks a lock: it only asks the file
// system to, which does so once the lock was not renewed for its lifetime.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/cfs/layout"
)

// Times of the protocol.
const (
	acquireTimeout = 10 * time.Second // to get a lock, unless the context ends earlier
	holdLimit      = 60 * time.Second // to work under one
	retry          = time.Second / 4
)

// ErrTimeout says that somebody else kept the lock.
var ErrTimeout = errors.New("got lock request timeout")

// File returns the name of the lock that guards a file of the tree.
func File(path string) string {
	return "file-" + strings.NewReplacer("/", "_", ".", "_").Replace(path)
}

// With runs f under the lock called name of the tree. The context of f ends in
// time for the lock to be still its own.
func With(ctx context.Context, tree, name string, f func(context.Context) error) error {
	path := filepath.Join(tree, layout.LockDir, name)
	if err := acquire(ctx, path); err != nil {
		return fmt.Errorf("lock '%s': %w", name, err)
	}
	held, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	err := f(held)
	if e := os.Remove(path); e != nil && !os.IsNotExist(e) {
		err = errors.Join(err, fmt.Errorf("lock '%s': release: %w", name, e))
	}
	return err
}

// acquire creates the directory of a lock.
func acquire(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	for {
		// A new tree may have no place for locks yet.
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.Mkdir(path, 0o700)
		}
		if err == nil || !os.IsExist(err) {
			return err
		}
		// The time 0 asks for the release of a lock that has expired. While it has
		// not, the file system leaves it as it is, and the error says nothing new.
		_ = os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0))
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ErrTimeout
		}
	}
}
