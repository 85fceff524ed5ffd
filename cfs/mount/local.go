package mount

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// Limits of what lives on this node only.
const (
	maxLocalBytes = layout.MaxTotal
	maxLocalFiles = 4096
)

// errBecame tells that a local file has become an entry of the tree meanwhile.
var errBecame = errors.New("no longer local")

// departGrace is for how long a file that was renamed to a temporary name stays
// in the cluster. Editors rename the old content away and write the new one a
// moment later: the two together are one change of content, and nobody else
// must see the file missing, least of all whoever runs the guest it describes.
const departGrace = 2 * time.Second

// place is where a name hangs.
type place struct {
	parent uint64
	name   string
}

// localKind says why a file is on this node only.
type localKind uint8

const (
	pending   localKind = iota // a new file whose first content has not been saved yet
	temporary                  // a file with a name that editors save through
)

// A localFile exists on this node only: a temporary, or a new file whose
// first content has not been saved yet.
type localFile struct {
	id      uint64
	at      place
	kind    localKind
	named   bool // can be looked up
	data    []byte
	mtime   int64
	inode   uint64 // the entry of the tree that it has become; 0 = none
	lookups uint64
	opens   int
}

// A departure is a file that a program has renamed to a temporary name. It is
// hidden on this node and removed from the cluster when nothing takes its name
// in time.
type departure struct {
	path    string
	version uint64
	uid     uint32
	due     time.Time
}

// locals holds the local files and the departures.
type locals struct {
	mu       sync.Mutex // guards what follows, and the fields of every localFile
	next     uint64
	byID     map[uint64]*localFile
	named    map[place]*localFile
	departed map[place]departure
	pending  map[place]int // files that are being written for the first time
	bytes    int           // of named files
	changes  uint64        // of what listings show
}

func (l *locals) init() {
	l.next, l.byID = localIDs, map[uint64]*localFile{}
	l.named, l.departed, l.pending = map[place]*localFile{}, map[place]departure{}, map[place]int{}
}

// state numbers what can be seen in listings.
func (l *locals) state() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// get returns a local file and what it has become.
func (l *locals) get(id uint64) (f *localFile, inode uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok = l.byID[id]; ok {
		inode = f.inode
	}
	return f, inode, ok
}

// create makes an empty local file that is open once and known to the kernel.
func (l *locals) create(at place, kind localKind, now int64) (*localFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	named := kind == temporary
	if named && len(l.named) >= maxLocalFiles {
		return nil, tree.ErrNoSpace
	}
	f := &localFile{id: l.next, at: at, kind: kind, named: named, mtime: now, lookups: 1, opens: 1}
	l.next++
	l.byID[f.id] = f
	if !named {
		l.pending[at]++
	} else {
		l.unname(at)
		l.named[at] = f
		l.changes++
	}
	return f, nil
}

// lookup finds a temporary and counts the lookup.
func (l *locals) lookup(at place) (*localFile, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.named[at]
	if ok {
		f.lookups++
	}
	return f, ok
}

func (l *locals) has(at place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.named[at]
	return ok
}

// list returns the names of the temporaries in a directory, in byte order, and
// the names that are hidden there.
func (l *locals) list(parent uint64) (temporaries []*localFile, hidden map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, f := range l.named {
		if at.parent == parent {
			temporaries = append(temporaries, f)
		}
	}
	for at := range l.departed {
		if at.parent == parent {
			if hidden == nil {
				hidden = map[string]bool{}
			}
			hidden[at.name] = true
		}
	}
	slices.SortFunc(temporaries, func(a, b *localFile) int { return strings.Compare(a.at.name, b.at.name) })
	return temporaries, hidden
}

// snapshot returns the content and time of f as they are now.
func (l *locals) snapshot(f *localFile) (data []byte, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(f.data), f.mtime
}

func (l *locals) stat(f *localFile) (size int, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(f.data), f.mtime
}

// edit replaces the content of a temporary by what change makes of it.
func (l *locals) edit(f *localFile, now int64, change func([]byte) ([]byte, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.inode != 0 {
		return errBecame
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

func (l *locals) setTime(f *localFile, mtime int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.mtime = mtime
}

// unlink takes a temporary's name away; open handles keep the content.
func (l *locals) unlink(at place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unname(at)
}

// unname is unlink for callers that hold the lock.
func (l *locals) unname(at place) bool {
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

// dropDir forgets the temporaries in a directory that is no more.
func (l *locals) dropDir(parent uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.named {
		if at.parent == parent {
			l.unname(at)
		}
	}
}

// rename gives a temporary another temporary name.
func (l *locals) rename(from, to place) bool {
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

// become notes that f is now the entry inode: whoever still has f, has that.
func (l *locals) become(f *localFile, inode uint64) {
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

func (l *locals) open(f *localFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.opens++
}

func (l *locals) release(f *localFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.opens--
	l.collect(f)
}

func (l *locals) forget(id, lookups uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.byID[id]; ok {
		f.lookups -= min(lookups, f.lookups)
		l.collect(f)
	}
}

// collect drops a file that nobody can reach any more.
func (l *locals) collect(f *localFile) {
	if f.named || f.lookups > 0 || f.opens > 0 || l.byID[f.id] != f {
		return
	}
	delete(l.byID, f.id)
	if f.kind == pending {
		if l.pending[f.at]--; l.pending[f.at] == 0 {
			delete(l.pending, f.at)
		}
	}
}

// depart hides an entry and keeps its content under a temporary name.
func (l *locals) depart(from place, d departure, to place, e tree.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.named) >= maxLocalFiles || l.bytes+len(e.Data) > maxLocalBytes {
		return tree.ErrNoSpace
	}
	l.unname(to)
	f := &localFile{id: l.next, at: to, kind: temporary, named: true, data: bytes.Clone(e.Data), mtime: e.Mtime}
	l.next++
	l.byID[f.id], l.named[to] = f, f
	l.bytes += len(f.data)
	l.departed[from] = d
	l.changes++
	return nil
}

// isUnsettled reports whether a name is about to appear or to disappear by the
// doing of this node, so that the kernel must not rely on what it is told of it.
func (l *locals) isUnsettled(at place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, departed := l.departed[at]
	return departed || l.pending[at] > 0
}

func (l *locals) isDeparted(at place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.departed[at]
	return ok
}

// arrive ends a departure: its name is taken again or its entry is gone.
func (l *locals) arrive(at place) (departure, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.departed[at]
	if ok {
		delete(l.departed, at)
		l.changes++
	}
	return d, ok
}

// overdue returns the departures whose time has come.
func (l *locals) overdue(now time.Time) map[place]departure {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := map[place]departure{}
	for at, d := range l.departed {
		if !now.Before(d.due) {
			due[at] = d
		}
	}
	return due
}

// removals removes what has departed for good, until the mount ends.
func (m *Mount) removals() {
	tick := time.NewTicker(departGrace / 8)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			m.removeDeparted(m.cfg.Now())
		}
	}
}

func (m *Mount) removeDeparted(now time.Time) {
	for at, d := range m.locals.overdue(now) {
		c := &command.Command{ID: m.ids.Add(1), Node: m.cfg.Node, Writer: m.cfg.Writer, UID: d.uid,
			Time: now.Unix(), Op: command.Remove, Path: d.path, Expect: d.version}
		// A refusal means that somebody has changed the file meanwhile: it stays,
		// and shows again. Without quorum it is tried again.
		_, err := m.propose(nil, c, remote)
		if m.statusOf(err) == 0 || !isTransient(err) {
			m.locals.arrive(at)
			m.queue.forgetName(at)
		}
	}
}
