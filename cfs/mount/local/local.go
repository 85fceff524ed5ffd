// Package local keeps the files that exist on this node only: the temporaries
// that editors save through, new files that have not been saved yet, and what is
// known of files that a program has renamed to a temporary name.
//
// It owns their names, their content in memory and its bounds. It proposes
// nothing and knows nothing of the kernel but that it counts lookups.
package local

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// Limits of what lives on this node only.
const (
	maxLocalBytes = layout.MaxTotal
	maxLocalFiles = 4096
)

// ErrBecame tells that a local file has become an entry of the tree meanwhile.
var ErrBecame = errors.New("no longer local")

// Grace is for how long a file that was renamed to a temporary name stays
// in the cluster. Editors rename the old content away and write the new one a
// moment later: the two together are one change of content, and nobody else
// must see the file missing, least of all whoever runs the guest it describes.
const Grace = 2 * time.Second

// Place is where a name hangs.
type Place struct {
	Parent uint64 // inode of the directory
	Name   string
}

// Places returns the names a change is about: the old one first, if it has one.
func Places(c tree.Change) []Place {
	_, name := layout.Split(c.Path)
	at := Place{Parent: c.Parent, Name: name}
	if c.Kind != tree.Renamed {
		return []Place{at}
	}
	_, name = layout.Split(c.From)
	return []Place{{Parent: c.FromParent, Name: name}, at}
}

// Kind says why a file is on this node only.
type Kind uint8

const (
	Pending   Kind = iota // a new file whose first content has not been saved yet
	Temporary             // a file with a name that editors save through
)

// A File exists on this node only: a temporary, or a new file whose
// first content has not been saved yet.
type File struct {
	ID      uint64
	at      Place
	Kind    Kind
	named   bool // can be looked up
	data    []byte
	mtime   int64
	inode   uint64 // the entry of the tree that it has become; 0 = none
	lookups uint64
	opens   int
}

// A Departure is a file that a program has renamed to a temporary name. It is
// hidden on this node and removed from the cluster when nothing takes its name
// in time.
type Departure struct {
	Path    string
	Version uint64
	UID     uint32
	Due     time.Time
	Moved   <-chan struct{} // closed when the kernel knows what has the temporary name
}

// Store holds the local files and the departures.
type Store struct {
	mu       sync.Mutex // guards what follows, and the fields of every File
	next     uint64
	byID     map[uint64]*File
	named    map[Place]*File
	departed map[Place]Departure
	pending  map[Place]int // files that are being written for the first time
	bytes    int           // of named files
	changes  uint64        // of what listings show
}

// New returns an empty store whose files are numbered from first.
func New(first uint64) *Store {
	return &Store{next: first, byID: map[uint64]*File{}, named: map[Place]*File{}, departed: map[Place]Departure{}, pending: map[Place]int{}}
}

// State numbers what can be seen in listings.
func (l *Store) State() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// Get returns a local file and what it has become.
func (l *Store) Get(id uint64) (f *File, inode uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok = l.byID[id]; ok {
		inode = f.inode
	}
	return f, inode, ok
}

// Create makes an empty local file that is open once and known to the kernel.
func (l *Store) Create(at Place, kind Kind, now int64) (*File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	named := kind == Temporary
	if named && len(l.named) >= maxLocalFiles {
		return nil, tree.ErrNoSpace
	}
	f := &File{ID: l.next, at: at, Kind: kind, named: named, mtime: now, lookups: 1, opens: 1}
	l.next++
	l.byID[f.ID] = f
	if !named {
		l.pending[at]++
	} else {
		l.unname(at)
		l.named[at] = f
		l.changes++
	}
	return f, nil
}

// Lookup finds a temporary and counts the lookup.
func (l *Store) Lookup(at Place) (*File, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.named[at]
	if ok {
		f.lookups++
	}
	return f, ok
}

// Has reports whether there is a temporary at a place.
func (l *Store) Has(at Place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.named[at]
	return ok
}

// An Item is a temporary in a listing.
type Item struct {
	ID   uint64
	Name string
}

// List returns the names of the temporaries in a directory, in byte order, and
// the names that are hidden there.
func (l *Store) List(parent uint64) (temporaries []Item, hidden map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, f := range l.named {
		if at.Parent == parent {
			temporaries = append(temporaries, Item{f.ID, at.Name})
		}
	}
	for at := range l.departed {
		if at.Parent == parent {
			if hidden == nil {
				hidden = map[string]bool{}
			}
			hidden[at.Name] = true
		}
	}
	slices.SortFunc(temporaries, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
	return temporaries, hidden
}

// Snapshot returns the content and time of f as they are now.
func (l *Store) Snapshot(f *File) (data []byte, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(f.data), f.mtime
}

// Stat returns the size and time of f as they are now, and where it is.
func (l *Store) Stat(f *File) (size int, mtime int64, at Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(f.data), f.mtime, f.at
}

// Edit replaces the content of a temporary by what change makes of it.
func (l *Store) Edit(f *File, now int64, change func([]byte) ([]byte, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.inode != 0 {
		return ErrBecame
	}
	data, err := change(f.data)
	if err != nil {
		return err
	}
	if more := len(data) - len(f.data); f.named {
		if more > 0 && l.bytes+more > maxLocalBytes {
			return tree.ErrNoSpace
		}
		l.bytes += more
	}
	f.data, f.mtime = data, now
	return nil
}

// SetTime sets the modification time of f.
func (l *Store) SetTime(f *File, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.mtime = mtime
}

// Unlink takes a temporary's name away; open handles keep the content.
func (l *Store) Unlink(at Place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unname(at)
}

// unname is unlink for callers that hold the lock.
func (l *Store) unname(at Place) bool {
	f, ok := l.named[at]
	if !ok {
		return false
	}
	delete(l.named, at)
	l.changes++
	l.bytes -= len(f.data)
	f.named = false
	l.collect(f)
	return true
}

// DropDir forgets the temporaries in a directory that is no more.
func (l *Store) DropDir(parent uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.named {
		if at.Parent == parent {
			l.unname(at)
		}
	}
}

// Rename gives a temporary another temporary name.
func (l *Store) Rename(from, to Place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.named[from]
	if !ok {
		return false
	}
	if from != to {
		l.unname(to)
		delete(l.named, from)
		f.at = to
		l.named[to] = f
		l.changes++
	}
	return true
}

// Become notes that f is now the entry inode: whoever still has f, has that.
func (l *Store) Become(f *File, inode uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.named && l.named[f.at] == f {
		delete(l.named, f.at)
		l.changes++
		l.bytes -= len(f.data)
	}
	f.named, f.inode, f.data = false, inode, nil
	l.collect(f)
}

// Open counts a handle of f.
func (l *Store) Open(f *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.opens++
}

// At returns where f is, or was when it had a name.
func (l *Store) At(f *File) Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f.at
}

// Release takes a handle of f back.
func (l *Store) Release(f *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.opens--
	l.collect(f)
}

// Forget takes back the kernel's lookups of a file.
func (l *Store) Forget(id, lookups uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.byID[id]; ok {
		f.lookups -= min(lookups, f.lookups)
		l.collect(f)
	}
}

// collect drops a file that nobody can reach any more.
func (l *Store) collect(f *File) {
	if f.named || f.lookups > 0 || f.opens > 0 || l.byID[f.ID] != f {
		return
	}
	delete(l.byID, f.ID)
	if f.Kind == Pending {
		if l.pending[f.at]--; l.pending[f.at] == 0 {
			delete(l.pending, f.at)
		}
	}
}

// Depart hides an entry and keeps its content under a temporary name.
func (l *Store) Depart(from Place, d Departure, to Place, e tree.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.named) >= maxLocalFiles || l.bytes+len(e.Data) > maxLocalBytes {
		return tree.ErrNoSpace
	}
	l.unname(to)
	f := &File{ID: l.next, at: to, Kind: Temporary, named: true, data: bytes.Clone(e.Data), mtime: e.Mtime}
	l.next++
	l.byID[f.ID], l.named[to] = f, f
	l.bytes += len(f.data)
	l.departed[from] = d
	l.changes++
	return nil
}

// IsUnsettled reports whether a name is about to appear or to disappear by the
// doing of this node, so that the kernel must not rely on what it is told of it.
func (l *Store) IsUnsettled(at Place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, departed := l.departed[at]
	return departed || l.pending[at] > 0
}

// Departure returns the departure from a place.
func (l *Store) Departure(at Place) (Departure, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.departed[at]
	return d, ok
}

// IsDeparted reports whether the file at a place is hidden.
func (l *Store) IsDeparted(at Place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.departed[at]
	return ok
}

// Arrive ends a departure: its name is taken again or its entry is gone.
func (l *Store) Arrive(at Place) (Departure, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.departed[at]
	if ok {
		delete(l.departed, at)
		l.changes++
	}
	return d, ok
}

// Departed returns the departures that are wanted.
func (l *Store) Departed(wanted func(Place, Departure) bool) map[Place]Departure {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := map[Place]Departure{}
	for at, d := range l.departed {
		if wanted(at, d) {
			list[at] = d
		}
	}
	return list
}
