package virtual

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"

	"etcpve/cfs/layout"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
)

// Documents is .status: what agents say of the file at the same path.
type Documents struct {
	Node    string
	Tree    *tree.Tree
	Store   *status.Store
	History History // tells versions; nil for none
}

// Stat finds the document at path, or the directory of the tree.
func (d Documents) Stat(path string) (Info, error) {
	if info, ok := linkAt(d.Node, path); ok {
		return info, nil
	}
	if v, ok := d.Store.Latest(status.Document, path); ok {
		return Info{Mode: layout.Mode(path, false), Size: len(v.Data), Time: v.Time}, nil
	}
	if e, ok := d.Tree.Lookup(path); ok && e.Dir {
		return mirror(path, e.Mtime), nil
	}
	return Info{}, ErrNotExist
}

// List returns the documents and directories below path.
func (d Documents) List(path string) ([]Item, error) {
	e, ok := d.Tree.Lookup(path)
	if !ok || !e.Dir {
		return nil, ErrNotExist
	}
	var items []Item
	for _, child := range d.Tree.List(e.Inode) {
		if child.Dir {
			items = append(items, Item{Name: child.Name, Dir: true})
		}
	}
	for _, v := range d.Store.List(status.Document) {
		if dir, name := layout.Split(v.Key); dir == path {
			items = append(items, Item{Name: name})
		}
	}
	if path == "" {
		for _, l := range layout.Links(d.Node) {
			items = append(items, Item{Name: l.Name, Link: true})
		}
	}
	return sorted(items), nil
}

// Read returns the newest document about path.
func (d Documents) Read(path string, _ uint32) ([]byte, error) {
	v, ok := d.Store.Latest(status.Document, path)
	if !ok {
		return nil, ErrNotExist
	}
	return v.Data, nil
}

// Write publishes a document. Its directory must exist in the tree.
func (d Documents) Write(path string, content []byte) error {
	dir, _ := layout.Split(path)
	if e, ok := d.Tree.Lookup(dir); !ok || !e.Dir {
		return ErrNotExist
	}
	_, err := d.Store.Set(status.Document, path, d.withVersion(path, content))
	return err
}

// Rename publishes the document at from as that of to.
func (d Documents) Rename(from, to string) error {
	v, ok := d.Store.Latest(status.Document, from)
	if !ok {
		return ErrNotExist
	}
	if err := d.Write(to, v.Data); err != nil {
		return err
	}
	return d.Remove(from)
}

// Remove takes back this node's document about path.
func (d Documents) Remove(path string) error {
	if _, ok := d.Store.Latest(status.Document, path); !ok {
		return ErrNotExist
	}
	_, err := d.Store.Remove(status.Document, path)
	return err
}

// withVersion says in a document which version of the file it is about, by its
// name in .history. An agent knows the content it has read by its digest only; the
// version is filled in when that is still the present content.
func (d Documents) withVersion(path string, document []byte) []byte {
	digest, ok := field(document, "digest")
	if !ok {
		return document
	}
	e, ok := d.Tree.Lookup(path)
	if !ok || e.Dir {
		return document
	}
	if sum := sha1.Sum(e.Data); hex.EncodeToString(sum[:]) != strings.ToLower(digest) || d.History == nil {
		return document
	}
	kept, err := d.History.Versions(path)
	if err != nil || len(kept) == 0 || kept[len(kept)-1].Removed {
		return document
	}
	var b bytes.Buffer
	for line := range bytes.Lines(document) {
		if bytes.HasPrefix(line, []byte("version:")) {
			continue
		}
		b.Write(line)
		if bytes.HasPrefix(line, []byte("digest:")) {
			if line[len(line)-1] != '\n' {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "version: %d\n", kept[len(kept)-1].Index)
		}
	}
	return b.Bytes()
}

// field returns the value of a "key: value" line.
func field(document []byte, key string) (string, bool) {
	for line := range bytes.Lines(document) {
		if value, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			return string(bytes.TrimSpace(value)), true
		}
	}
	return "", false
}
