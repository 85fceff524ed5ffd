// Package directories finds the volumes of VMs on storages that are directories,
// without the plugins of storages: all that an agent needs that runs alone.
//
// It owns where each kind of file lies below the path of such a storage, and the
// reading of sectioned files. It never creates, changes or removes a volume.
package directories

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"etcpve/agents/qemu/cmdline"
)

// Storages are the storages that keep files below a path: a volume ID names
// a file in one of them, an absolute path names itself.
type Storages struct {
	Tree string // the cluster file system
	Node string // the local node
}

// mountedAt are the types of storages.cfg that are mounted below /mnt/pve
// unless they say where.
var mountedAt = []string{"dir", "btrfs", "nfs", "cifs", "cephfs", "glusterfs"}

// contentDirs are where each kind of file lies below the path of a storage.
var contentDirs = map[string]string{"iso": "template/iso", "snippets": "snippets", "import": "import"}

// Resolve returns the file or device behind a volume ID or a path.
func (d Storages) Resolve(_ context.Context, id string) (cmdline.Volume, error) {
	if filepath.IsAbs(id) {
		return volumeAt(id)
	}
	storage, name, ok := strings.Cut(id, ":")
	if !ok || name == "" || !filepath.IsLocal(name) {
		return cmdline.Volume{}, fmt.Errorf("%q is neither a volume ID nor a path", id)
	}
	s, err := d.storage(storage)
	if err != nil {
		return cmdline.Volume{}, err
	}
	kind, rest, _ := strings.Cut(name, "/")
	dir, content := filepath.Join("images", kind), "images"
	if sub, ok := contentDirs[kind]; ok {
		dir, content = sub, kind
	}
	if allowed := s.Options["content"]; allowed != "" && !slices.Contains(strings.Split(allowed, ","), content) {
		return cmdline.Volume{}, fmt.Errorf("storage '%s' does not support content-type '%s'", storage, content)
	}
	// A linked clone names its base first: 9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2.
	if parts := strings.Split(name, "/"); len(parts) == 4 {
		dir, rest = filepath.Join("images", parts[2]), parts[3]
	}
	return volumeAt(filepath.Join(s.path(), dir, rest))
}

func volumeAt(path string) (cmdline.Volume, error) {
	info, err := os.Stat(path)
	if err != nil {
		return cmdline.Volume{}, err
	}
	v := cmdline.Volume{Path: path, Format: "raw", Size: info.Size(), Device: info.Mode()&os.ModeDevice != 0}
	switch ext := strings.TrimPrefix(filepath.Ext(path), "."); ext {
	case "qcow2", "vmdk", "qed":
		v.Format = ext
	}
	return v, nil
}

func (d Storages) storage(id string) (Section, error) {
	content, err := os.ReadFile(filepath.Join(d.Tree, "storage.cfg"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Section{}, err
	}
	for _, s := range Sections(string(content)) {
		if s.ID != id {
			continue
		}
		nodes := s.Options["nodes"]
		switch {
		case !slices.Contains(mountedAt, s.Kind):
			return s, fmt.Errorf("storage '%s' has the type %s, which keeps no files", id, s.Kind)
		case s.Options.Bool("disable", false):
			return s, fmt.Errorf("storage '%s' is disabled", id)
		case nodes != "" && !slices.Contains(strings.Split(nodes, ","), d.Node):
			return s, fmt.Errorf("storage '%s' is not available on node '%s'", id, d.Node)
		}
		return s, nil
	}
	if id == "local" && errors.Is(err, fs.ErrNotExist) {
		return Section{Kind: "dir", ID: id, Options: cmdline.Options{"path": "/var/lib/vz"}}, nil
	}
	return Section{}, fmt.Errorf("storage '%s' does not exist", id)
}

// A Section is one entry of a sectioned file.
type Section struct {
	Kind, ID string
	Options  cmdline.Options
}

func (s Section) path() string {
	if p := s.Options["path"]; p != "" {
		return p
	}
	return "/mnt/pve/" + s.ID
}

var (
	sectionHead = regexp.MustCompile(`^(\S+):\s*(\S+)\s*$`)
	sectionProp = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
)

// Sections reads "type: id" headers with indented properties below them.
func Sections(content string) (all []Section) {
	for line := range strings.Lines(content) {
		line = strings.TrimRight(line, "\r\n")
		if head := sectionHead.FindStringSubmatch(line); head != nil {
			all = append(all, Section{head[1], head[2], cmdline.Options{}})
		} else if prop := sectionProp.FindStringSubmatch(line); prop != nil && len(all) > 0 && !strings.HasPrefix(prop[1], "#") {
			value := prop[2]
			if value == "" {
				value = "1"
			}
			all[len(all)-1].Options[prop[1]] = value
		}
	}
	return all
}
