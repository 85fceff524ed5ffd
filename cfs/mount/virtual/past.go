package virtual

import (
	"bytes"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// A Version is one kept content of a file.
type Version struct {
	Index   uint64 // of the log
	Time    int64  // Unix seconds, the writer's clock
	Node    string
	UID     uint32
	Size    int
	Removed bool // the file was removed here; there is no content
}

// History is where the versions are kept.
type History interface {
	// Versions returns what is kept of path, oldest first; nothing is no error.
	Versions(path string) ([]Version, error)
	Content(path string, index uint64) ([]byte, error)
	// Names returns what is kept in a directory: files, and directories that
	// hold some, whether or not they still exist.
	Names(dir string) ([]Item, error)
}

// logName is the entry of a file's history that lists the others.
const logName = "log"

// Past is .history: a directory for each file, with one entry for each version.
type Past struct {
	Node    string
	Tree    *tree.Tree
	History History
}

// Stat finds a directory of the tree, a file's history or a version of it.
func (p Past) Stat(path string) (Info, error) {
	if info, ok := linkAt(p.Node, path); ok {
		return info, nil
	}
	if e, ok := p.Tree.Lookup(path); ok && e.Dir {
		return mirror(path, e.Mtime), nil
	}
	versions, err := p.History.Versions(path)
	if err != nil {
		return Info{}, err
	}
	if n := len(versions); n > 0 {
		return mirror(path, versions[n-1].Time), nil
	}
	if info, err := p.statEntry(path); !errors.Is(err, ErrNotExist) {
		return info, err
	}
	// A directory that is no more may still hold the past of its files.
	names, err := p.History.Names(path)
	if err == nil && len(names) == 0 {
		err = ErrNotExist
	}
	return mirror(path, 0), err
}

func (p Past) statEntry(path string) (Info, error) {
	file, name := layout.Split(path)
	versions, err := p.History.Versions(file)
	if err != nil || len(versions) == 0 {
		return Info{}, errors.Join(err, ErrNotExist)
	}
	mode := layout.Mode(file, false) &^ 0o222
	if name == logName {
		return Info{Mode: mode, Size: len(render(versions)), Time: versions[len(versions)-1].Time}, nil
	}
	for _, v := range versions {
		if name == strconv.FormatUint(v.Index, 10) && !v.Removed {
			return Info{Mode: mode, Size: v.Size, Time: v.Time}, nil
		}
	}
	return Info{}, ErrNotExist
}

// List returns what is below path: versions, or files and directories.
func (p Past) List(path string) ([]Item, error) {
	var items []Item
	versions, err := p.History.Versions(path)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if !v.Removed {
			items = append(items, Item{Name: strconv.FormatUint(v.Index, 10)})
		}
	}
	if len(versions) > 0 {
		return sorted(append(items, Item{Name: logName})), nil
	}
	names, err := p.History.Names(path)
	if err != nil {
		return nil, err
	}
	for _, n := range names { // each file has a directory of versions
		items = append(items, Item{Name: n.Name, Dir: true})
	}
	if path == "" {
		for _, l := range layout.Links(p.Node) {
			items = append(items, Item{Name: l.Name, Link: true})
		}
	}
	return sorted(items), nil
}

// Read returns one version, or the list of them.
func (p Past) Read(path string, _ uint32) ([]byte, error) {
	file, name := layout.Split(path)
	if name == logName {
		versions, err := p.History.Versions(file)
		return render(versions), err
	}
	index, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return nil, ErrNotExist
	}
	return p.History.Content(file, index)
}

// render lists versions, a line each: index, time, node, user, bytes.
func render(versions []Version) []byte {
	var b bytes.Buffer
	for _, v := range versions {
		size := strconv.Itoa(v.Size)
		if v.Removed {
			size = "removed"
		}
		fmt.Fprintf(&b, "%d %s %s %s %s\n", v.Index, time.Unix(v.Time, 0).UTC().Format(time.RFC3339), nonEmpty(v.Node), userName(v.UID), size)
	}
	return b.Bytes()
}

func nonEmpty(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func userName(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
