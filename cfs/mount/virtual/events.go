package virtual

import (
	"encoding/json"
	"sync"

	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// keptEvents is how many commits are kept for readers that resume or are slow.
const keptEvents = 8192

// kindNames are the words for what has happened.
var kindNames = map[tree.Kind]string{
	tree.Created: "created", tree.Modified: "modified", tree.Removed: "removed",
	tree.Renamed: "renamed", tree.Touched: "touched",
}

// event is one line of .events.
type event struct {
	Index   uint64 `json:"index"`
	Time    int64  `json:"time"`
	Node    string `json:"node,omitempty"`
	UID     uint32 `json:"uid"`
	Kind    string `json:"kind"`
	Path    string `json:"path"`
	From    string `json:"from,omitempty"`
	Dir     bool   `json:"dir,omitempty"`
	Size    int    `json:"size"`
	Version uint64 `json:"version"`
}

// gap is the line that stands for commits that are no longer kept.
type gap struct {
	Gap   bool   `json:"gap"`
	After uint64 `json:"after"` // the reader has seen this index
	Until uint64 `json:"until"` // and misses commits up to this one
}

// Events is .events: the stream of commits as JSON lines.
type Events struct {
	mu     sync.Mutex    // guards what follows
	kept   []tree.Change // event n, counted from 0, is at n modulo keptEvents
	end    uint64        // number of the next event
	floor  uint64        // commits up to this index are not kept
	closed bool
	news   chan struct{} // closed when something is added
}

// NewEvents returns an empty stream.
func NewEvents() *Events { return &Events{news: make(chan struct{})} }

// Start says from which index on commits will be added.
func (e *Events) Start(index uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.floor = index
}

// Add appends commits and wakes the readers.
func (e *Events) Add(changes []tree.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range changes {
		if len(e.kept) < keptEvents {
			e.kept = append(e.kept, c)
		} else {
			oldest := &e.kept[e.end%keptEvents]
			e.floor, *oldest = oldest.Index, c
		}
		e.end++
	}
	e.wake()
}

// first returns the number of the oldest event that is kept.
func (e *Events) first() uint64 { return e.end - uint64(len(e.kept)) }

// Close ends the stream for all readers.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		e.wake()
	}
}

func (e *Events) wake() {
	close(e.news)
	e.news = make(chan struct{})
}

// A Reader is one reader's place in the stream. It belongs to one goroutine at
// a time.
type Reader struct {
	mu    sync.Mutex // guards what follows
	of    *Events
	uid   uint32
	next  uint64 // number of the next event
	seen  uint64 // index of the last commit before it
	ahead []byte // lines that did not fit into the last read
}

// Now returns a reader of everything that is committed from now on.
func (e *Events) Now(uid uint32) *Reader {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Reader{of: e, uid: uid, next: e.end, seen: e.floor}
	if e.end > 0 {
		r.seen = e.kept[(e.end-1)%keptEvents].Index
	}
	return r
}

// After returns a reader of everything that was committed after index.
func (e *Events) After(index uint64, uid uint32) *Reader {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Reader{of: e, uid: uid, next: e.first(), seen: index}
	for _, c := range e.kept {
		if c.Index <= index {
			r.next++
		}
	}
	if index < e.floor {
		r.skip(e.floor)
	}
	return r
}

func (r *Reader) skip(until uint64) {
	line, _ := json.Marshal(gap{Gap: true, After: r.seen, Until: until})
	r.ahead = append(append(r.ahead, line...), '\n')
	r.seen = until
}

// Read fills b with lines and returns how many bytes; 0 means that the stream
// has ended. It waits for the first byte until cancel is closed; then it returns
// ok = false.
func (r *Reader) Read(cancel <-chan struct{}, b []byte) (n int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		news, closed := r.collect(len(b))
		if len(r.ahead) > 0 {
			n = copy(b, r.ahead)
			r.ahead = r.ahead[n:]
			return n, true
		}
		if closed {
			return 0, true
		}
		select {
		case <-news:
		case <-cancel:
			return 0, false
		}
	}
}

// collect turns kept events into lines until there are enough bytes.
func (r *Reader) collect(enough int) (news chan struct{}, closed bool) {
	e := r.of
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.first(); r.next < first {
		r.skip(e.floor)
		r.next = first
	}
	for len(r.ahead) < enough && r.next < e.end {
		c := e.kept[r.next%keptEvents]
		r.next++
		r.seen = c.Index
		if r.uid != 0 && (layout.IsPrivate(c.Path) || layout.IsPrivate(c.From)) {
			continue
		}
		line, _ := json.Marshal(event{c.Index, c.Time, c.Node, c.UID, kindNames[c.Kind], c.Path, c.From, c.Dir, c.Size, c.Version})
		r.ahead = append(append(r.ahead, line...), '\n')
	}
	return e.news, e.closed
}
