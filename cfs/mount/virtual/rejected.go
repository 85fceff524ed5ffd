package virtual

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// maxRejected is how many refused saves .rejected remembers, and maxReasons how
// many reasons of each.
const (
	maxRejected = 100
	maxReasons  = 20
)

// A Rejection is one refused save.
type Rejection struct {
	Time    time.Time
	Path    string
	UID     uint32
	Reasons []text.Error
}

// Rejected is .rejected: the last refused saves of this node.
type Rejected struct {
	mu   sync.Mutex // guards what follows
	last []Rejection
}

// NewRejected returns an empty list.
func NewRejected() *Rejected { return &Rejected{} }

// Add remembers a refused save.
func (r *Rejected) Add(rejection Rejection) {
	rejection.Reasons = rejection.Reasons[:min(len(rejection.Reasons), maxReasons)]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = append(r.last, rejection)
	if drop := len(r.last) - maxRejected; drop > 0 {
		r.last = append([]Rejection(nil), r.last[drop:]...)
	}
}

// Render lists what uid may see, a line for each reason, newest last.
func (r *Rejected) Render(uid uint32) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b bytes.Buffer
	for _, rejection := range r.last {
		if uid != 0 && layout.IsPrivate(rejection.Path) {
			continue
		}
		for _, reason := range rejection.Reasons {
			reason.File = rejection.Path
			fmt.Fprintf(&b, "%s %s %s\n", rejection.Time.UTC().Format(time.RFC3339), userName(rejection.UID), reason.Error())
		}
	}
	return b.Bytes()
}
