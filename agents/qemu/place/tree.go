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

	"etcpve/cfs/format/vmlist"
	"etcpve/cfs/layout"
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
		all, err = p.listed()
		if errors.Is(err, os.ErrNotExist) {
			all, err = p.scanned()
		}
		return errors.Join(err, p.present()) // while all of it was read
	})
	return all, err
}

// listed reads the list of guests that the file system keeps, which is of one
// moment as a whole.
func (p Place) listed() (all []string, err error) {
	text, err := os.ReadFile(filepath.Join(p.Tree, ".vmlist"))
	if err != nil {
		return nil, err
	}
	guests, err := vmlist.Parse(text)
	for _, g := range guests {
		all = append(all, g.Path())
	}
	slices.Sort(all)
	return all, err
}

// scanned looks into the directories of all nodes, for a tree that is a plain
// directory. A guest that moves meanwhile may be seen nowhere: so it looks until
// it sees the same twice.
func (p Place) scanned() ([]string, error) {
	last, err := p.scan()
	for err == nil {
		var all []string
		if all, err = p.scan(); err == nil && slices.Equal(all, last) {
			return all, nil
		}
		last = all
	}
	return nil, err
}

func (p Place) scan() (all []string, err error) {
	nodes, err := os.ReadDir(filepath.Join(p.Tree, "nodes"))
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		for _, kind := range []layout.Kind{layout.QEMU, layout.LXC} {
			dir := "nodes/" + node.Name() + "/" + kind.Dir()
			entries, err := os.ReadDir(filepath.Join(p.Tree, dir))
			if err != nil && !errors.Is(err, os.ErrNotExist) { // a node may have had no such guest yet
				return nil, err
			}
			for _, e := range entries {
				if _, ok := layout.GuestOf(dir + "/" + e.Name()); ok {
					all = append(all, dir+"/"+e.Name())
				}
			}
		}
	}
	return all, nil
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
