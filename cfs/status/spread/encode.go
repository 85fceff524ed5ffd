package spread

import (
	"encoding/binary"
	"errors"

	"etcpve/cfs/status"
)

// A message begins with one of these.
const (
	aValue   byte = iota + 1 // news: one value
	anEntry                  // news: one entry of the cluster log
	aNotice                  // news: a value too large for news exists
	aDigest                  // state: what its sender knows
	aRequest                 // asks for the values of nodes, or for the log
	anAnswer                 // values and log entries
)

// Bounds of what is read from the network.
const (
	maxText  = 4 << 10  // names, keys, messages
	maxCount = 64 << 10 // elements of a list
)

var errMalformed = errors.New("malformed status message")

// A writer appends fields to a message.
type writer struct{ b []byte }

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) value(v status.Value) {
	w.text(v.Node)
	w.number(uint64(v.Kind))
	w.text(v.Key)
	w.number(v.Counter)
	w.number(uint64(v.Time))
	w.number(uint64(v.Expires))
	if v.Data == nil {
		w.number(0)
		return
	}
	w.number(uint64(len(v.Data)) + 1)
	w.b = append(w.b, v.Data...)
}

func (w *writer) entry(e status.LogEntry) {
	for _, n := range []uint64{uint64(e.UID), uint64(e.Time), uint64(e.Priority), uint64(e.PID)} {
		w.number(n)
	}
	for _, s := range []string{e.Tag, e.Node, e.User, e.Message} {
		w.text(s)
	}
}

// A reader takes fields from a message; after the first mistake it returns
// zeros and err is set.
type reader struct {
	b   []byte
	err error
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) bytes(limit uint64) []byte {
	n := r.number()
	if n > limit || n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) text() string { return string(r.bytes(maxText)) }

func (r *reader) count() int {
	n := r.number()
	if n > maxCount {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) fail() {
	r.err, r.b = errMalformed, nil
}

func (r *reader) value() (v status.Value) {
	v.Node = r.text()
	v.Kind = status.Kind(r.number())
	v.Key = r.text()
	v.Counter = r.number()
	v.Time = int64(r.number())
	v.Expires = int64(r.number())
	size := r.number()
	if size == 0 {
		return v
	}
	if size--; size > status.MaxValue || size > uint64(len(r.b)) {
		r.fail()
		return v
	}
	v.Data = append([]byte{}, r.b[:size]...)
	r.b = r.b[size:]
	return v
}

func (r *reader) entry() (e status.LogEntry) {
	e.UID = uint32(r.number())
	e.Time = int64(r.number())
	e.Priority = int(r.number())
	e.PID = int(r.number())
	e.Tag, e.Node, e.User, e.Message = r.text(), r.text(), r.text(), r.text()
	return e
}
