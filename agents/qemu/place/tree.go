package place

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	book "etcpve/agents/guest"
)

// patience is how long work waits for a tree whose daemon was killed, or which
// has lost its quorum: its daemon is started again, or another leader is found.
const (
	patience     = time.Minute
	patiencePoll = 200 * time.Millisecond
)

// away reports whether a failure comes from the tree as a whole: its daemon has
// ended, nothing is mounted, or it takes no changes because it has no quorum,
// which it shows by modes without a write bit.
func (p Place) away(err error) bool {
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
		return true
	}
	info, e := os.Stat(filepath.Join(p.Tree, "nodes", p.Node))
	return e != nil || errors.Is(err, syscall.EACCES) && info.Mode().Perm()&0o222 == 0
}

// present refuses to conclude anything from a file that is not there while the
// whole tree is not.
func (p Place) present() error {
	if _, err := os.Stat(filepath.Join(p.Tree, "nodes", p.Node)); err != nil {
		return fmt.Errorf("%s: no tree with node %s is mounted here: %w", p.Tree, p.Node, syscall.ENOTCONN)
	}
	return nil
}

// patiently repeats what fails because the tree is away. Work that is undone
// after its context ended waits too.
func (p Place) patiently(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := do()
		if err == nil || !p.away(err) {
			return err
		}
		select {
		case <-time.After(patiencePoll):
		case <-ctx.Done():
			return err
		}
	}
}

// Read returns a file of the tree.
func (p Place) Read(ctx context.Context, path string) (content []byte, err error) {
	err = p.patiently(ctx, func() error {
		content, err = os.ReadFile(filepath.Join(p.Tree, path))
		if errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, p.present())
		}
		return err
	})
	return content, err
}

// Write replaces a file of the tree in one commit, through a temporary name.
func (p Place) Write(ctx context.Context, path, content string) error {
	path = filepath.Join(p.Tree, path)
	return p.patiently(ctx, func() error {
		draft := path + ".tmp." + rand.Text() // several tasks may write one file
		if err := os.WriteFile(draft, []byte(content), 0o640); err != nil {
			return err
		}
		if err := os.Rename(draft, path); err != nil {
			return errors.Join(err, os.Remove(draft))
		}
		return nil
	})
}

// Remove removes a file of the tree, if it is there.
func (p Place) Remove(ctx context.Context, path string) error {
	return p.patiently(ctx, func() error {
		err := os.Remove(filepath.Join(p.Tree, path))
		if errors.Is(err, os.ErrNotExist) {
			return p.present()
		}
		return err
	})
}

// make writes a file that must not be there yet. When the daemon ends meanwhile,
// it may have made the file, empty.
func (p Place) make(ctx context.Context, path, content string) error {
	path = filepath.Join(p.Tree, path)
	mine := false
	return p.patiently(ctx, func() error {
		mode := os.O_CREATE | os.O_WRONLY | os.O_EXCL
		if info, err := os.Stat(path); mine && err == nil && (info.Size() == 0 || info.Size() == int64(len(content))) {
			mode = os.O_WRONLY | os.O_TRUNC
		}
		f, err := os.OpenFile(path, mode, 0o640)
		if err == nil {
			_, err = f.WriteString(content)
			err = errors.Join(err, f.Close())
		}
		mine = mine || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
		return err
	})
}

// Configurations lists those of all guests of the cluster, relative to the tree,
// each where it is at one moment.
func (p Place) Configurations(ctx context.Context) (all []string, err error) {
	err = p.patiently(ctx, func() error {
		guests, err := book.All(p.Tree)
		all = nil
		for _, g := range guests {
			all = append(all, g.Path())
		}
		slices.Sort(all)
		return errors.Join(err, p.present()) // while all of it was read
	})
	return all, err
}

// maxLooks is how often all configurations are looked at because one has gone
// from where it was.
const maxLooks = 20

// AnyConfiguration reports whether a configuration of the cluster is as wanted.
// One that moves to another node meanwhile is not missed.
func (p Place) AnyConfiguration(ctx context.Context, wanted func(path, content string) bool) (bool, error) {
	for range maxLooks {
		all, err := p.Configurations(ctx)
		if err != nil {
			return false, err
		}
		moved := false
		for _, path := range all {
			content, err := p.Read(ctx, path)
			switch {
			case errors.Is(err, os.ErrNotExist):
				moved = true // or was removed
			case err != nil:
				return false, err
			case wanted(path, string(content)):
				return true, nil
			}
		}
		if !moved {
			return false, nil
		}
	}
	return false, fmt.Errorf("guests move faster than they can be looked at")
}
