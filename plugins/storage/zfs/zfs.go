// Package zfs is the storage type "zfs": volumes are block devices of a ZFS pool
// on a server, which QEMU reaches as LUNs of an iSCSI target there.
//
// It owns the way to the server, by SSH with the key priv/zfs/PORTAL_id_rsa, and
// that each volume has a LUN. The commands for the pool are those of
// plugins/storage/zfspool, carried out on the server; every word of them is
// quoted for its shell. Which LUN a volume has is asked when it is activated and
// kept until it is not any more, below a directory of the node. It never logs in
// to the target itself.
package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/target"
	"etcpve/plugins/storage/zfspool"
)

// Plugin is the type.
type Plugin struct {
	run    storage.Runner
	tree   string // the cluster file system, with the keys
	active string // the directory that says which LUN an active volume has
}

// Active is where nodes keep which LUN an active volume has.
const Active = "/run/etcpve/zfs"

// New returns the type. Keys are below the tree.
func New(run storage.Runner, tree, active string) Plugin { return Plugin{run, tree, active} }

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.RollbackChecker
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Renamer
	storage.Blockdever
	storage.VolumeActivator
	storage.Featured
} = Plugin{}

// A server carries out commands where the pool is.
type server struct {
	run storage.Runner
	key string
	to  string
}

// Run runs a command. SSH gives all words to a shell, as one line.
func (s server) Run(ctx context.Context, c host.Command) ([]byte, error) {
	line := make([]string, len(c.Argv))
	for i, word := range c.Argv {
		line[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	c.Argv = []string{"ssh", "-o", "BatchMode=yes", "-i", s.key, s.to, "--", strings.Join(line, " ")}
	return s.run.Run(ctx, c)
}

// server returns the way to the server of a storage: the host of its portal.
func (p Plugin) server(c *storage.Config) server {
	name := target.Host(c)
	return server{p.run, filepath.Join(p.tree, "priv/zfs", name+"_id_rsa"), "root@" + name}
}

func (p Plugin) pool(c *storage.Config) zfspool.Plugin { return zfspool.New(p.server(c)) }

// luns returns what knows the LUNs of a storage.
func (p Plugin) luns(c *storage.Config) (lio, error) {
	if provider := c.Value("iscsiprovider"); provider != "LIO" {
		return lio{}, fmt.Errorf("storage '%s': iscsiprovider '%s' is not known here, only LIO", c.ID, provider)
	}
	return lio{p.server(c), c}, nil
}

// Parse understands a volume name.
func (Plugin) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "zfs", Names: "vm|base", Bases: "base"}.Parse(name)
}

// Features says what can be done with volumes.
func (p Plugin) Features(c *storage.Config) storage.Features { return p.pool(c).Features(c) }

// lunFile is where the LUN of an active volume is kept.
func (p Plugin) lunFile(c *storage.Config, v storage.Volume) string {
	return filepath.Join(p.active, c.ID, v.File)
}

func (p Plugin) lun(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if snapshot != "" {
		return "", fmt.Errorf("snapshots as disks are %w", storage.ErrUnsupported)
	}
	text, err := os.ReadFile(p.lunFile(c, v))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("volume '%s' is not active", v.Name)
	}
	return strings.TrimSpace(string(text)), err
}

// Path returns the address of a volume that is active.
func (p Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	lun, err := p.lun(c, v, snapshot)
	return target.Address(c, lun), err
}

// Blockdev returns how QEMU opens a volume that is active.
func (p Plugin) Blockdev(c *storage.Config, v storage.Volume, snapshot string) (map[string]any, error) {
	lun, err := p.lun(c, v, snapshot)
	if err != nil {
		return nil, err
	}
	return target.Node(c, lun)
}

// ActivateVolume asks which LUN a volume has.
func (p Plugin) ActivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	if snapshot != "" {
		return fmt.Errorf("snapshots as disks are %w", storage.ErrUnsupported)
	}
	luns, err := p.luns(c)
	if err != nil {
		return err
	}
	lun, err := luns.of(ctx, v.File)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.lunFile(c, v)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p.lunFile(c, v), []byte(lun+"\n"), 0o644)
}

// DeactivateVolume forgets the LUN.
func (p Plugin) DeactivateVolume(_ context.Context, c *storage.Config, v storage.Volume, _ string) error {
	if err := os.Remove(p.lunFile(c, v)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Activate sees whether the portal answers.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	if _, err := p.luns(c); err != nil {
		return err
	}
	return target.Online(ctx, target.Portal(c))
}

// Deactivate has nothing to undo.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks for the data set that holds the volumes.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	return p.pool(c).Status(ctx, c)
}

// List returns the volumes of guests.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	all, err := p.pool(c).List(ctx, c, q)
	var ours []storage.Info
	for _, i := range all {
		if _, err := p.Parse(i.Name); err == nil { // not a container's
			ours = append(ours, i)
		}
	}
	return ours, err
}

// Size returns the size of a volume in bytes.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	return p.pool(c).Size(ctx, c, v)
}
