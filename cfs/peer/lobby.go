package peer

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Bounds of what strangers may use.
const (
	maxWaiting   = 64          // connections that have not shown a certificate yet
	maxAdmitting = 4           // requests of strangers that are looked at at a time
	refuseAfter  = time.Second // passwords can be tried no faster than these two allow
)

// A lobby holds the connections that have not shown a certificate yet. When it is full
// the one that has been there for longest goes: a member needs some milliseconds, and
// is let in however many strangers there are.
type lobby struct {
	admitting chan struct{}

	mu      sync.Mutex // guards waiting
	waiting []net.Conn // in the order in which they came
}

func newLobby() *lobby { return &lobby{admitting: make(chan struct{}, maxAdmitting)} }

func (l *lobby) enter(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, c)
	if len(l.waiting) > maxWaiting {
		l.waiting[0].Close()
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
}

func (l *lobby) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}
