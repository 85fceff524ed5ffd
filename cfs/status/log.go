package status

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Limits of the cluster log.
const (
	MaxLogBytes = 128 << 10 // of all entries together; the oldest go first
	MaxLogEntry = 4 << 10   // of one entry; the message is cut
	shownLog    = 50        // entries that .clusterlog shows
)

// A LogEntry is one line of the cluster log.
type LogEntry struct {
	UID      uint32 // number of the entry on its node
	Time     int64  // Unix seconds
	Priority int    // as in syslog: 6 is information
	Tag      string
	PID      int
	Node     string
	User     string
	Message  string
}

// overhead is what an entry takes beside its texts in the field's own ring.
const overhead = 48

func (e LogEntry) size() int {
	return overhead + len(e.Tag) + len(e.Node) + len(e.User) + len(e.Message)
}

// before orders entries as all nodes agree on.
func (e LogEntry) compare(o LogEntry) int {
	return cmp.Or(cmp.Compare(e.Time, o.Time), strings.Compare(e.Node, o.Node), cmp.Compare(e.UID, o.UID))
}

// Log is the cluster log: a bounded list of what all nodes report to the
// operator. Its methods are safe for concurrent use.
type Log struct {
	mu      sync.Mutex // guards what follows
	entries []LogEntry // oldest first
	bytes   int
	uid     uint32
}

// Add appends an entry of this node, numbers it and returns it.
func (l *Log) Add(e LogEntry) LogEntry {
	e.Message = ascii(e.Message)
	if over := e.size() - MaxLogEntry; over > 0 {
		e.Message = e.Message[:max(0, len(e.Message)-over)]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uid++
	e.UID = l.uid
	l.insert(e)
	return e
}

// Merge takes over entries of other nodes and returns those that were news.
func (l *Log) Merge(entries []LogEntry) (news []LogEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		if e.size() <= MaxLogEntry && l.insert(e) {
			news = append(news, e)
		}
	}
	return news
}

// Entries returns all entries, oldest first.
func (l *Log) Entries() []LogEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// insert keeps the order and the bound, and reports whether e is kept. The caller
// holds the lock.
func (l *Log) insert(e LogEntry) bool {
	at, known := slices.BinarySearchFunc(l.entries, e, LogEntry.compare)
	if known {
		return false
	}
	l.entries = slices.Insert(l.entries, at, e)
	l.bytes += e.size()
	drop := 0
	for l.bytes > MaxLogBytes {
		l.bytes -= l.entries[drop].size()
		drop++
	}
	l.entries = slices.Delete(l.entries, 0, drop)
	return at >= drop
}

// JSON returns the newest entries first, in the form of .clusterlog. An empty
// user means the entries of all users.
func (l *Log) JSON(user string) []byte {
	var b bytes.Buffer
	b.WriteString("{\n\"data\": [\n")
	shown := 0
	for _, e := range slices.Backward(l.Entries()) {
		if shown == shownLog || user != "" && e.User != user {
			continue
		}
		if shown > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"uid": %d, "time": %d, "pri": %d, "tag": "%s", "pid": %d, "node": "%s", "user": "%s", "msg": "%s"}`,
			e.UID, e.Time, e.Priority, ascii(e.Tag), e.PID, ascii(e.Node), ascii(e.User), e.Message)
		shown++
	}
	if shown > 0 {
		b.WriteByte('\n')
	}
	b.WriteString("]\n}\n")
	return b.Bytes()
}

// ascii escapes a text for use between the quotes of a JSON string, with
// everything beyond printable ASCII as \uXXXX.
func ascii(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteToASCII(string(r))
			quoted = quoted[1 : len(quoted)-1]
			if r > 0xffff { // JSON writes these as two halves
				r -= 0x10000
				quoted = fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
			} else if !strings.HasPrefix(quoted, `\u`) {
				quoted = fmt.Sprintf(`\u%04x`, r)
			}
			b.WriteString(quoted)
		}
	}
	return b.String()
}
