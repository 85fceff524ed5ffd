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

// EventsAfter returns the index in a name of the form ".events.INDEX".
func EventsAfter(name string) (index uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, EventsName+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil
}
