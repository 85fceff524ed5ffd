// Package rbd is the storage type "rbd": volumes are the images of a pool of a
// Ceph cluster, reached by QEMU's own librbd, or by the kernel with "krbd".
//
// It owns the names of images, the commands of rbd and ceph that work on them,
// and where the key of an external cluster is: priv/ceph/ID.keyring. A base has
// the protected snapshot __base__, which clones stand on. It never changes pools
// or the cluster.
package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// Plugin is the type.
type Plugin struct {
	run  storage.Runner
	tree string // the cluster file system, with the keys
}

// New returns the type. Keys are below the tree.
func New(run storage.Runner, tree string) Plugin { return Plugin{run, tree} }

var _ interface {
	storage.Plugin
	storage.Snapshotter
	storage.Cloner
	storage.Resizer
	storage.Sizer
	storage.Exporter
	storage.Renamer
	storage.Blockdever
	storage.VolumeActivator
	storage.Featured
} = Plugin{}

// Parse understands a volume name.
func (Plugin) Parse(name string) (storage.Volume, error) {
	return storage.BlockForm{Type: "rbd", Names: "vm|base", Bases: "base"}.Parse(name)
}

// Features says what can be done with volumes.
func (Plugin) Features(*storage.Config) storage.Features {
	return storage.Features{
		"snapshot": {"current", "snap"}, "clone": {"base", "snap"}, "template": {"current"},
		"copy": {"base", "current", "snap"}, "sparseinit": {"base", "current"}, "rename": {"current"},
	}
}

// pool returns the pool of a storage, and with its namespace.
func pool(c *storage.Config) (name, spec string) {
	name = c.Value("pool")
	if name == "" {
		name = "rbd"
	}
	spec = name
	if ns := c.Value("namespace"); ns != "" {
		spec += "/" + ns
	}
	return name, spec
}

// image is the full name of an image, or of a snapshot of it.
func image(c *storage.Config, file, snapshot string) string {
	_, spec := pool(c)
	spec += "/" + file
	if snapshot != "" {
		spec += "@" + snapshot
	}
	return spec
}

// An access is how to reach the cluster of a storage.
type access struct{ conf, keyring, user, monitors string }

func (p Plugin) access(c *storage.Config) access {
	a := access{user: c.Value("username"), monitors: c.Value("monhost")}
	if a.user == "" {
		a.user = "admin"
	}
	exists := func(name string) string {
		path := filepath.Join(p.tree, name)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	a.keyring = exists("priv/ceph/" + c.ID + ".keyring")
	if a.conf = exists("priv/ceph/" + c.ID + ".conf"); a.conf == "" && a.monitors == "" {
		a.conf = exists("ceph.conf") // that of this cluster
	}
	return a
}

// monitorList returns the monitors of an external cluster.
func (a access) monitorList() []string {
	return strings.FieldsFunc(a.monitors, func(r rune) bool { return strings.ContainsRune(" ,;", r) })
}

// argv is a command of rbd or ceph with what reaches the cluster.
func (p Plugin) argv(c *storage.Config, program string, words ...string) []string {
	a := p.access(c)
	argv := []string{program}
	if a.conf != "" {
		argv = append(argv, "-c", a.conf)
	}
	if a.monitors != "" {
		argv = append(argv, "-m", strings.Join(a.monitorList(), ","))
	}
	argv = append(argv, "-n", "client."+a.user)
	if a.keyring != "" {
		argv = append(argv, "--keyring", a.keyring)
	}
	return append(argv, words...)
}

func (p Plugin) rbd(ctx context.Context, c *storage.Config, words ...string) error {
	_, err := p.run.Run(ctx, host.Command{Argv: p.argv(c, "rbd", words...)})
	return err
}

// ask reads what a command prints as JSON.
func ask[T any](ctx context.Context, p Plugin, c *storage.Config, program string, words ...string) (said T, err error) {
	out, err := p.run.Run(ctx, host.Command{Argv: p.argv(c, program, append(words, "--format", "json")...)})
	if err != nil {
		return said, err
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return said, fmt.Errorf("%s %s: %w", program, words[0], err)
	}
	return said, nil
}

// escaped is a value inside an address of QEMU's.
func escaped(value string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, ";", `\;`, "@", `\@`, "=", `\=`).Replace(value)
}

// Path returns the device of an image that the kernel maps, else the address
// that QEMU's tools take.
func (p Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if c.Bool("krbd") {
		return "/dev/rbd/" + image(c, v.File, snapshot), nil
	}
	a := p.access(c)
	path := "rbd:" + image(c, v.File, snapshot)
	if a.conf != "" {
		path += ":conf=" + escaped(a.conf)
	}
	if a.monitors != "" {
		path += ":mon_host=" + escaped(strings.Join(a.monitorList(), ";"))
		path += ":auth_supported=" + map[bool]string{true: "cephx", false: "none"}[a.keyring != ""]
	}
	path += ":id=" + escaped(a.user)
	if a.keyring != "" {
		path += ":keyring=" + escaped(a.keyring)
	}
	return path, nil
}

// Blockdev returns how QEMU opens an image. It takes no keyring: that has to be
// in the configuration that Activate writes.
func (p Plugin) Blockdev(c *storage.Config, v storage.Volume, snapshot string) (map[string]any, error) {
	if c.Bool("krbd") {
		return nil, nil
	}
	a := p.access(c)
	name, _ := pool(c)
	node := map[string]any{"driver": "rbd", "pool": name, "image": v.File, "user": a.user}
	for key, value := range map[string]string{"namespace": c.Value("namespace"), "snapshot": snapshot, "conf": a.conf} {
		if value != "" {
			node[key] = value
		}
	}
	if a.monitors == "" {
		return node, nil
	}
	node["auth-client-required"] = []any{map[bool]string{true: "cephx", false: "none"}[a.keyring != ""]}
	var servers []any
	for _, monitor := range a.monitorList() {
		host, port, err := net.SplitHostPort(monitor)
		if err != nil {
			host, port = strings.Trim(monitor, "[]"), "6789"
		}
		servers = append(servers, map[string]any{"host": host, "port": port})
	}
	node["server"] = servers
	return node, nil
}

// Activate writes the configuration of an external cluster, which librbd needs
// to find the key, and sees whether the pool is there.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	if a := p.access(c); a.monitors != "" && a.keyring != "" && a.conf == "" {
		text := fmt.Sprintf("[global]\n\tmon_host = %s\n\tkeyring = %s\n", strings.Join(a.monitorList(), ","), a.keyring)
		if err := os.WriteFile(filepath.Join(p.tree, "priv/ceph", c.ID+".conf"), []byte(text), 0o600); err != nil {
			return fmt.Errorf("configuration of the Ceph cluster: %w", err)
		}
	}
	_, spec := pool(c)
	_, err := ask[[]string](ctx, p, c, "rbd", "ls", spec)
	return err
}

// Deactivate has nothing to undo.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status asks how full the pool is.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (s storage.Status, err error) {
	type usage struct {
		Pools []struct {
			Name  string
			Stats struct {
				Stored    int64
				Available int64 `json:"max_avail"`
			}
		}
	}
	said, err := ask[usage](ctx, p, c, "ceph", "df")
	if err != nil {
		return s, err
	}
	name, _ := pool(c)
	if data := c.Value("data-pool"); data != "" {
		name = data
	}
	for _, pool := range said.Pools {
		if pool.Name == name {
			s.Used, s.Available = pool.Stats.Stored, pool.Stats.Available
			s.Total = s.Used + s.Available
			return s, nil
		}
	}
	return s, fmt.Errorf("no such pool '%s'", name)
}

// A listed is what "rbd ls -l" says of an image, or of a snapshot of it.
type listed struct {
	Image, Snapshot string
	Size            int64
	Parent          struct{ Image, Snapshot string }
}

func (p Plugin) all(ctx context.Context, c *storage.Config) ([]listed, error) {
	_, spec := pool(c)
	all, err := ask[[]listed](ctx, p, c, "rbd", "ls", "-l", spec)
	return slices.DeleteFunc(all, func(l listed) bool { return l.Snapshot != "" }), err
}

// List returns the images of guests.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	all, err := p.all(ctx, c)
	if err != nil {
		return nil, err
	}
	var infos []storage.Info
	for _, l := range all {
		v, err := p.Parse(l.Image)
		if err != nil || v.Base != "" {
			continue
		}
		i := storage.Info{Name: l.Image, Format: "raw", VMID: v.VMID, Size: l.Size}
		if l.Parent.Image != "" {
			i.Parent = l.Parent.Image + "@" + l.Parent.Snapshot
			if l.Parent.Snapshot == baseSnapshot {
				i.Name = l.Parent.Image + "/" + l.Image
			}
		}
		infos = append(infos, i)
	}
	return block.Infos(q, infos), nil
}

// mib rounds a size up to whole MiB, as rbd takes it.
func mib(bytes int64) string { return strconv.FormatInt((bytes+1<<20-1)>>20, 10) }

// dataPool is the option for images whose content is in another pool.
func dataPool(c *storage.Config) []string {
	if data := c.Value("data-pool"); data != "" {
		return []string{"--data-pool", data}
	}
	return nil
}

func (p Plugin) vacant(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	all, err := p.all(ctx, c)
	if err != nil {
		return "", err
	}
	var taken []string
	for _, l := range all {
		taken = append(taken, l.Image)
	}
	return block.Name(p, r, "vm", taken)
}

// Alloc creates an image.
func (p Plugin) Alloc(ctx context.Context, c *storage.Config, r storage.Request) (string, error) {
	if r.Format != "" && r.Format != "raw" {
		return "", fmt.Errorf("unsupported format '%s'", r.Format)
	}
	name, err := p.vacant(ctx, c, r)
	if err != nil {
		return "", err
	}
	return name, p.rbd(ctx, c, slices.Concat([]string{"create", "--image-format", "2", "--size", mib(r.Bytes)}, dataPool(c), []string{image(c, name, "")})...)
}

// Free removes an image with its snapshots.
func (p Plugin) Free(ctx context.Context, c *storage.Config, v storage.Volume) error {
	all, err := p.all(ctx, c)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Parent.Image == v.File {
			return fmt.Errorf("image '%s' is still in use by linked clone '%s'", v.File, l.Image)
		}
	}
	states, err := p.states(ctx, c, v)
	if err != nil {
		return err
	}
	if err := p.DeactivateVolume(ctx, c, v, ""); err != nil {
		return err
	}
	for _, s := range states {
		if s.protected() {
			if err := p.rbd(ctx, c, "snap", "unprotect", image(c, v.File, s.Name)); err != nil {
				return err
			}
		}
	}
	if len(states) > 0 {
		if err := p.rbd(ctx, c, "snap", "purge", image(c, v.File, "")); err != nil {
			return err
		}
	}
	return p.rbd(ctx, c, "rm", image(c, v.File, ""))
}

// Size returns the size of an image in bytes.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	said, err := ask[listed](ctx, p, c, "rbd", "info", image(c, v.File, ""))
	return said.Size, err
}

// Resize grows an image.
func (p Plugin) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	size, err := p.Size(ctx, c, v)
	if err == nil {
		err = v.Grows(size, bytes)
	}
	if err != nil {
		return err
	}
	return p.rbd(ctx, c, "resize", "--size", mib(bytes), image(c, v.File, ""))
}

// Rename gives an image to a guest.
func (p Plugin) Rename(ctx context.Context, c *storage.Config, v storage.Volume, vmid uint32, name string) (string, error) {
	name, err := p.vacant(ctx, c, storage.Request{VMID: vmid, Name: name})
	if err != nil {
		return "", err
	}
	if err := p.rbd(ctx, c, "rename", image(c, v.File, ""), image(c, name, "")); err != nil {
		return "", err
	}
	if v.Base != "" {
		return v.Base + "/" + name, nil
	}
	return name, nil
}

// A mapped is an image that the kernel has a device for.
type mapped struct {
	Pool, Namespace, Name, Snap, Device string
}

// device returns the device of an image, "" if the kernel has none.
func (p Plugin) device(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	all, err := ask[[]mapped](ctx, p, c, "rbd", "showmapped")
	if err != nil {
		return "", err
	}
	name, _ := pool(c)
	if snapshot == "" {
		snapshot = "-"
	}
	for _, m := range all {
		if m.Pool == name && m.Namespace == c.Value("namespace") && m.Name == v.File && m.Snap == snapshot {
			return m.Device, nil
		}
	}
	return "", nil
}

// ActivateVolume maps an image if the kernel is to reach it.
func (p Plugin) ActivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	if !c.Bool("krbd") {
		return nil
	}
	device, err := p.device(ctx, c, v, snapshot)
	if err != nil || device != "" {
		return err
	}
	return p.rbd(ctx, c, "map", image(c, v.File, snapshot))
}

// DeactivateVolume takes the device of an image away, also one that is left from
// before "krbd" was taken out of the definition.
func (p Plugin) DeactivateVolume(ctx context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	device, err := p.device(ctx, c, v, snapshot)
	if err != nil || device == "" {
		return err
	}
	return p.rbd(ctx, c, "unmap", device)
}

// errBase says that only bases have clones.
var errBase = errors.New("clone_image only works on base images and snapshots")
