package virtual

import (
	"strconv"
	"strings"
)

// Names of the root that pmxcfs does not have. They can be opened by name, but
// no listing shows them: whoever walks the tree must not walk into a stream
// that never ends or a second copy of everything.
const (
	StatusName   = ".status"
	HistoryName  = ".history"
	RejectedName = ".rejected"
	EventsName   = ".events"
)

// Root is the virtual names of the root. It does not change after it was made.
type Root struct {
	views  map[string]View
	Listed []Item // what a listing of the root shows
}

// NewRoot returns a root without names.
func NewRoot() *Root { return &Root{views: map[string]View{}} }

// Show adds a name that listings show.
func (r *Root) Show(name string, view View) {
	_, link := view.(Link)
	r.Hide(name, view)
	r.Listed = append(r.Listed, Item{Name: name, Link: link})
}

// Hide adds a name that must be known to be found.
func (r *Root) Hide(name string, view View) { r.views[name] = view }

// Find returns the view that a virtual name belongs to and the path inside it.
func (r *Root) Find(name string) (view View, path string, ok bool) {
	first, path, _ := strings.Cut(name, "/")
	if _, ok := EventsAfter(first); ok && path == "" {
		first = EventsName
	}
	view, ok = r.views[first]
	return view, path, ok
}

// Has reports whether name, in the root, is one that the tree cannot have.
func (r *Root) Has(name string) bool {
	_, _, ok := r.Find(name)
	return ok
}

// Stat describes a virtual name.
func (r *Root) Stat(name string) (Info, error) {
	view, path, ok := r.Find(name)
	if !ok {
		return Info{}, ErrNotExist
	}
	return view.Stat(path)
}

// Takes reports whether what is written to a virtual name is taken.
func (r *Root) Takes(name string) bool {
	view, _, ok := r.Find(name)
	_, isWriter := view.(Writer)
	return ok && isWriter
}

// Write hands on what was written to a virtual name that takes it.
func (r *Root) Write(name string, content []byte) error {
	view, path, _ := r.Find(name)
	w, ok := view.(Writer)
	if !ok {
		return ErrAccess
	}
	return w.Write(path, content)
}

// keeper returns the view of a name that can be made, renamed and removed.
func (r *Root) keeper(name string) (k Keeper, path string, err error) {
	view, path, _ := r.Find(name)
	k, ok := view.(Keeper)
	if !ok {
		return nil, "", ErrAccess
	}
	return k, path, nil
}

// Create makes an empty file.
func (r *Root) Create(name string) error {
	k, path, err := r.keeper(name)
	if err != nil {
		return err
	}
	return k.Write(path, []byte{})
}

// Remove removes a file.
func (r *Root) Remove(name string) error {
	k, path, err := r.keeper(name)
	if err != nil {
		return err
	}
	return k.Remove(path)
}

// Rename renames a file within its view.
func (r *Root) Rename(from, to string) error {
	k, old, err := r.keeper(from)
	if err != nil {
		return err
	}
	other, path, err := r.keeper(to)
	if err != nil || other != k {
		return ErrAccess
	}
	return k.Rename(old, path)
}

// EventsAfter returns the index in a name of the form ".events.INDEX".
func EventsAfter(name string) (index uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, EventsName+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil
}
