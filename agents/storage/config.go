package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/definitions"
	"etcpve/cfs/format/property"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// File is the file that defines storages, relative to the tree.
const File = "storage.cfg"

// localPath is where the storage "local" keeps its files. Every node has one for
// all that a directory can hold, whether or not storage.cfg names it.
const localPath = "/var/lib/vz"

// A Config is one storage as storage.cfg defines it.
type Config struct {
	ID, Type string
	Values   map[string]string
}

// ParseConfigs reads storage.cfg. Sections that lack a required key are left
// out; warnings says so.
func ParseConfigs(content string) (all []*Config, warnings []string) {
	parsed := section.Parse(definitions.Storage, File, content, true)
	for _, s := range parsed.Sections {
		if s.Broken {
			continue
		}
		c := &Config{ID: s.ID, Type: s.Type, Values: map[string]string{}}
		for key, values := range s.Values {
			c.Values[key] = strings.Join(values, ",")
		}
		all = append(all, c)
	}
	if !slices.ContainsFunc(all, func(c *Config) bool { return c.ID == "local" }) {
		all = append([]*Config{{ID: "local", Type: "dir", Values: map[string]string{
			"path": localPath, "content": "backup,images,import,iso,rootdir,snippets,vztmpl", "prune-backups": "keep-all=1",
		}}}, all...)
	}
	return all, parsed.Warnings
}

// ReadConfigs reads the storage.cfg of a tree.
func ReadConfigs(tree string) ([]*Config, []string, error) {
	text, err := os.ReadFile(filepath.Join(tree, File))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	all, warnings := ParseConfigs(string(text))
	return all, warnings, nil
}

// Value returns a setting, or "".
func (c *Config) Value(key string) string { return c.Values[key] }

// Bool returns a truth value, false if it is not set.
func (c *Config) Bool(key string) bool {
	truth, _ := schema.Bool(c.Values[key])
	return truth
}

// Enabled reports whether the storage may be used at all.
func (c *Config) Enabled() bool { return !c.Bool("disable") }

// OnNode reports whether the storage is meant for a node.
func (c *Config) OnNode(node string) bool {
	nodes := schema.SplitList(c.Value("nodes"))
	return len(nodes) == 0 || slices.Contains(nodes, node)
}

// networked are the types that every node reaches under the same name.
var networked = []string{"nfs", "cifs", "cephfs", "glusterfs", "rbd", "iscsi", "iscsidirect", "pbs", "esxi", "zfs"}

// Shared reports whether all nodes see the same volumes.
func (c *Config) Shared() bool { return c.Bool("shared") || slices.Contains(networked, c.Type) }

// defaultContent is what types keep that do not say.
var defaultContent = map[string]string{
	"pbs": Backup, "esxi": Import, "cephfs": "backup,iso,vztmpl",
	"lvm": "images,rootdir", "lvmthin": "images,rootdir", "zfspool": "images,rootdir",
}

// Content returns the content types the storage may keep, sorted.
func (c *Config) Content() []string {
	list, given := c.Values["content"]
	if !given {
		if list, given = defaultContent[c.Type]; !given {
			list = Images
		}
	}
	content := schema.SplitList(list)
	content = slices.DeleteFunc(content, func(s string) bool { return s == "none" })
	slices.Sort(content)
	return slices.Compact(content)
}

// Keeps refuses a content type the storage is not meant for.
func (c *Config) Keeps(content string) error {
	if slices.Contains(c.Content(), content) || content == Images && slices.Contains(c.Content(), Rootdir) {
		return nil
	}
	return fmt.Errorf("storage '%s' does not support content-type '%s'", c.ID, content)
}

// mountedTypes are mounted by the node itself, below /mnt/pve unless they say where.
var mountedTypes = []string{"nfs", "cifs", "cephfs", "glusterfs"}

// Path returns the directory of a storage that keeps files, "" for others.
func (c *Config) Path() string {
	switch {
	case c.Value("path") != "":
		return c.Value("path")
	case slices.Contains(mountedTypes, c.Type):
		return "/mnt/pve/" + c.ID
	}
	return ""
}

// subdirs are where each content type lies below the path.
var subdirs = map[string]string{
	Images: "images", Rootdir: "private", ISO: "template/iso", Vztmpl: "template/cache",
	Backup: "dump", Snippets: "snippets", Import: "import",
}

// Subdir returns the directory of a content type.
func (c *Config) Subdir(content string) (string, error) {
	path := c.Path()
	if path == "" {
		return "", errors.New("storage definition has no path")
	}
	dir, known := subdirs[content]
	if !known {
		return "", fmt.Errorf("unknown vtype '%s'", content)
	}
	if overrides, err := property.Split(c.Value("content-dirs")); err == nil {
		if override, ok := overrides.Get(content); ok {
			dir = strings.Trim(override, "/")
		}
	}
	return path + "/" + dir, nil
}

// Preallocation returns the setting of that name, "metadata" if there is none.
func (c *Config) Preallocation() string {
	if value := c.Value("preallocation"); value != "" {
		return value
	}
	return "metadata"
}

// MaxProtected returns how many protected backups a guest may have: as set, else
// 5, or -1 (any number) for those who could change the setting. No type of
// storage decides otherwise.
func (c *Config) MaxProtected(privileged bool) int {
	if n, err := strconv.Atoi(c.Value("max-protected-backups")); err == nil {
		return n
	}
	if privileged {
		return -1
	}
	return 5
}
