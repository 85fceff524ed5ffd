package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// A Store reads and changes the configurations of one kind of guest on one
// node, through the mounted file system. It implements Files.
type Store struct {
	Root string // where the tree is mounted
	Node string
	Kind layout.Kind

	mu   sync.Mutex
	busy map[uint32]chan struct{} // one token for each guest that was ever changed
}

// ErrChanged says that somebody else saved a configuration while it was
// being changed.
var ErrChanged = errors.New("configuration was changed meanwhile")

func (s *Store) path(vmid uint32) string {
	return filepath.Join(s.Root, layout.Guest{VMID: vmid, Node: s.Node, Kind: s.Kind}.Path())
}

// Load reads a configuration. Lines that cannot be understood are left out.
func (s *Store) Load(_ context.Context, vmid uint32) (*guest.Config, error) {
	content, err := s.read(vmid)
	if err != nil {
		return nil, err
	}
	c, _ := guest.Parse(s.Kind, vmid, content)
	return c, nil
}

func (s *Store) read(vmid uint32) (string, error) {
	content, err := os.ReadFile(s.path(vmid))
	if err != nil {
		return "", fmt.Errorf("guest %d: read configuration: %w", vmid, err)
	}
	return string(content), nil
}

// Edit changes a configuration. Changes of one guest through this store are
// made one after the other; if anybody else saves meanwhile, nothing is
// written and the error is ErrChanged. Lines that do not change stay as they
// are.
func (s *Store) Edit(ctx context.Context, vmid uint32, change func(*guest.Config) error) error {
	release, err := s.acquire(ctx, vmid)
	if err != nil {
		return err
	}
	defer release()
	content, err := s.read(vmid)
	if err != nil {
		return err
	}
	c, _ := guest.Parse(s.Kind, vmid, content)
	if err := change(c); err != nil {
		return err
	}
	updated := guest.Update(content, c)
	if updated == content {
		return nil
	}
	now, err := s.read(vmid)
	if err != nil {
		return err
	}
	if now != content {
		return fmt.Errorf("guest %d: %w", vmid, ErrChanged)
	}
	return s.write(vmid, updated)
}

// write replaces the file through a temporary name, which the file system
// turns into one commit.
func (s *Store) write(vmid uint32, content string) error {
	path := s.path(vmid)
	temporary := fmt.Sprintf("%s.tmp.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, []byte(content), 0o640); err != nil {
		return fmt.Errorf("guest %d: write configuration: %w", vmid, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(fmt.Errorf("guest %d: write configuration: %w", vmid, err), os.Remove(temporary))
	}
	return nil
}

// acquire waits until nobody else changes the guest through this store.
func (s *Store) acquire(ctx context.Context, vmid uint32) (release func(), err error) {
	s.mu.Lock()
	if s.busy == nil {
		s.busy = map[uint32]chan struct{}{}
	}
	token := s.busy[vmid]
	if token == nil {
		token = make(chan struct{}, 1)
		s.busy[vmid] = token
	}
	s.mu.Unlock()
	select {
	case token <- struct{}{}:
		return func() { <-token }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("guest %d: wait for its other change: %w", vmid, context.Cause(ctx))
	}
}

// List returns the configurations of the node's guests of this kind, by VMID.
func (s *Store) List(ctx context.Context) ([]*guest.Config, error) {
	entries, err := os.ReadDir(filepath.Join(s.Root, "nodes", s.Node, s.Kind.Dir()))
	if err != nil {
		return nil, fmt.Errorf("list guests: %w", err)
	}
	var configs []*guest.Config
	for _, entry := range entries {
		g, ok := layout.GuestOf(strings.Join([]string{"nodes", s.Node, s.Kind.Dir(), entry.Name()}, "/"))
		if !ok {
			continue
		}
		c, err := s.Load(ctx, g.VMID)
		switch {
		case errors.Is(err, fs.ErrNotExist): // moved away meanwhile
		case err != nil:
			return nil, err
		default:
			configs = append(configs, c)
		}
	}
	slices.SortFunc(configs, func(a, b *guest.Config) int { return cmp.Compare(a.VMID, b.VMID) })
	return configs, nil
}
