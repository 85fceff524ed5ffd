// Package virtual makes the content of the files that nobody stores: the
// state of the cluster as text, the agents' documents, the history, the
// refused saves and the stream of commits.
//
// It owns their names and their forms. It never talks to the kernel and it
// never changes the tree.
package virtual

import (
	"errors"
	"slices"
)

// Reasons of a view to refuse.
var (
	ErrNotExist = errors.New("no such virtual file")
	ErrAccess   = errors.New("not for this user")
	ErrInvalid  = errors.New("cannot be read as what it should be")
)

// Info describes a virtual file, directory or link.
type Info struct {
	Mode uint32 // permission bits
	Dir  bool
	Link string // target, if it is a link
	Size int
	Time int64 // Unix seconds
}

// An Item is one name in a listing.
type Item struct {
	Name      string
	Dir, Link bool
}

// A View is a virtual file, or a directory of them. Paths are relative to it;
// "" is itself.
type View interface {
	Stat(path string) (Info, error)
	// Read returns the content that uid may see.
	Read(path string, uid uint32) ([]byte, error)
}

// A Lister is a View that is a directory.
type Lister interface {
	List(path string) ([]Item, error)
}

// A Writer is a View that takes what is written to it.
type Writer interface {
	Write(path string, content []byte) error
}

// A Keeper is a View whose files can be made, renamed and removed.
type Keeper interface {
	Writer
	Rename(from, to string) error
	Remove(path string) error
}

// A File is a View of a single file.
type File struct {
	Mode   uint32
	Render func(uid uint32) []byte
	Store  func([]byte) error // nil: read-only
}

// Stat describes the file.
func (f File) Stat(path string) (Info, error) {
	if path != "" {
		return Info{}, ErrNotExist
	}
	return Info{Mode: f.Mode, Size: len(f.Render(0))}, nil
}

// Read returns the file's present content.
func (f File) Read(_ string, uid uint32) ([]byte, error) { return f.Render(uid), nil }

// A WritableFile is a File that takes writes.
type WritableFile struct{ File }

// Write hands the content on.
func (f WritableFile) Write(_ string, content []byte) error { return f.Store(content) }

// A Link is a View that leads elsewhere.
type Link string

// Stat describes the link.
func (l Link) Stat(path string) (Info, error) {
	if path != "" {
		return Info{}, ErrNotExist
	}
	return Info{Mode: 0o755, Link: string(l), Size: len(l)}, nil
}

// Read is never asked for: the kernel follows the link.
func (l Link) Read(string, uint32) ([]byte, error) { return nil, ErrInvalid }

// sorted returns the items in byte order of their names, each name once.
func sorted(items []Item) []Item {
	slices.SortFunc(items, func(a, b Item) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(items, func(a, b Item) bool { return a.Name == b.Name })
}
