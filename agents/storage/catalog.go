package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/lock"
)

// A Catalog answers for the storages of one node.
type Catalog struct {
	Tree    string            // the cluster file system
	Node    string            // the local node
	Plugins map[string]Plugin // by type
	Run     Runner            // for copies of volumes
	Locks   string            // directory of the node's own locks; default /var/lock/pve-manager
}

// A Place is a volume with the storage it is on.
type Place struct {
	ID     ID
	Config *Config
	Plugin Plugin
	Volume Volume
}

// Configs returns the storages that may be used on this node.
func (c Catalog) Configs() ([]*Config, error) {
	all, _, err := ReadConfigs(c.Tree)
	return slices.DeleteFunc(all, func(s *Config) bool { return !s.Enabled() || !s.OnNode(c.Node) }), err
}

// Find returns a storage that may be used on this node.
func (c Catalog) Find(id string) (*Config, Plugin, error) {
	all, _, err := ReadConfigs(c.Tree)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(all, func(s *Config) bool { return s.ID == id })
	if i < 0 {
		return nil, nil, fmt.Errorf("storage '%s' does not exist", id)
	}
	s := all[i]
	switch p := c.Plugins[s.Type]; {
	case !s.Enabled():
		return nil, nil, fmt.Errorf("storage '%s' is disabled", id)
	case !s.OnNode(c.Node):
		return nil, nil, fmt.Errorf("storage '%s' is not available on node '%s'", id, c.Node)
	case p == nil:
		return nil, nil, fmt.Errorf("storage '%s': type '%s' is not known here", id, s.Type)
	default:
		return s, p, nil
	}
}

// Locate understands a volume ID.
func (c Catalog) Locate(text string) (Place, error) {
	id, err := ParseID(text)
	if err != nil {
		return Place{}, err
	}
	s, p, err := c.Find(id.Storage)
	if err != nil {
		return Place{}, err
	}
	v, err := p.Parse(id.Name)
	return Place{id, s, p, v}, err
}

// Path returns the file or device of a volume ID; an absolute path is its own.
func (c Catalog) Path(text string) (string, error) {
	if filepath.IsAbs(text) {
		return text, nil
	}
	at, err := c.Locate(text)
	if err != nil {
		return "", err
	}
	return at.Plugin.Path(at.Config, at.Volume, "")
}

// Activate makes a storage usable and returns it.
func (c Catalog) Activate(ctx context.Context, id string) (*Config, Plugin, error) {
	s, p, err := c.Find(id)
	if err != nil {
		return nil, nil, err
	}
	return s, p, p.Activate(ctx, s)
}

// Alloc creates a volume and returns its ID.
func (c Catalog) Alloc(ctx context.Context, id string, r Request) (made ID, err error) {
	s, p, err := c.Activate(ctx, id)
	if err != nil {
		return ID{}, err
	}
	content := Images
	if r.Format == "subvol" {
		content = Rootdir
	}
	if err := s.Keeps(content); err != nil {
		return ID{}, err
	}
	err = c.locked(ctx, s, func(ctx context.Context) error {
		name, err := p.Alloc(ctx, s, r)
		made = ID{id, name}
		return err
	})
	return made, err
}

// Free removes a volume.
func (c Catalog) Free(ctx context.Context, text string) error {
	at, err := c.Locate(text)
	if err != nil {
		return err
	}
	if err := at.Plugin.Activate(ctx, at.Config); err != nil {
		return err
	}
	return c.locked(ctx, at.Config, func(ctx context.Context) error {
		return at.Plugin.Free(ctx, at.Config, at.Volume)
	})
}

// List returns the volumes of a storage: of one content type and one guest, or
// of all.
func (c Catalog) List(ctx context.Context, id, content string, vmid uint32) (all []Info, err error) {
	s, p, err := c.Activate(ctx, id)
	if err != nil {
		return nil, err
	}
	wanted := s.Content()
	if content != "" {
		if err := s.Keeps(content); err != nil {
			return nil, err
		}
		wanted = []string{content}
	}
	containers := c.containers()
	for _, content := range wanted {
		part, err := p.List(ctx, s, Query{Content: content, VMID: vmid, Containers: containers})
		if err != nil {
			return nil, fmt.Errorf("storage '%s': list %s: %w", id, content, err)
		}
		all = append(all, part...)
	}
	slices.SortStableFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// containers tells which guests of the cluster are containers.
func (c Catalog) containers() func(vmid uint32) bool {
	confs, _ := filepath.Glob(filepath.Join(c.Tree, "nodes", "*", "lxc", "*.conf")) // the pattern is well-formed
	guests := map[string]bool{}
	for _, path := range confs {
		guests[strings.TrimSuffix(filepath.Base(path), ".conf")] = true
	}
	return func(vmid uint32) bool { return guests[fmt.Sprint(vmid)] }
}

// lockWait is how long to wait for somebody else's work on a storage.
const lockWait = 60 * time.Second

// locked runs f while nobody else creates or removes volumes of a storage: in
// the cluster if it is shared, else on this node.
func (c Catalog) locked(ctx context.Context, s *Config, f func(context.Context) error) error {
	if s.Shared() {
		return lock.With(ctx, c.Tree, "storage-"+s.ID, f)
	}
	dir := c.Locks
	if dir == "" {
		dir = "/var/lock/pve-manager"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err := host.Flock(wait, filepath.Join(dir, "pve-storage-"+s.ID))
	if err != nil {
		return fmt.Errorf("storage '%s': lock: %w", s.ID, err)
	}
	defer unlock()
	return f(ctx)
}
