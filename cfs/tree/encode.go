package tree

import (
	"encoding/binary"
	"errors"
	"fmt"

	"etcpve/cfs/layout"
)

// stateFormat is the version of State's encoding, its first byte.
const stateFormat = 1

// ErrMalformed is the cause of every failed UnmarshalState.
var ErrMalformed = errors.New("malformed tree")

// Marshal returns the binary form in which a State travels between nodes.
func (s State) Marshal() []byte {
	size := 64 + 40*len(s.Recent)
	for i := range s.Entries {
		size += 64 + len(s.Entries[i].Name) + len(s.Entries[i].Data)
	}
	b := append(make([]byte, 0, size), stateFormat)
	b = binary.AppendUvarint(b, s.Version)
	b = binary.AppendUvarint(b, s.Index)
	b = appendEntry(b, &s.Root)
	b = binary.AppendUvarint(b, uint64(len(s.Entries)))
	for i := range s.Entries {
		b = appendEntry(b, &s.Entries[i])
	}
	b = binary.AppendUvarint(b, uint64(len(s.Recent)))
	for _, m := range s.Recent {
		for _, v := range []uint64{uint64(m.Slot), m.ID, m.Index, m.Inode, uint64(m.Code)} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b
}

func appendEntry(b []byte, e *Entry) []byte {
	dir := uint64(0)
	if e.Dir {
		dir = 1
	}
	for _, v := range []uint64{e.Inode, e.Parent, e.Version, uint64(e.Writer), uint64(e.Mtime), dir, uint64(len(e.Name))} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(b, e.Name...)
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	return append(b, e.Data...)
}

// UnmarshalState reads the binary form. The result shares no memory with b.
func UnmarshalState(b []byte) (s State, err error) {
	r := stateReader{rest: b}
	if v := r.number(); v != stateFormat {
		return s, fmt.Errorf("%w: format %d is not known", ErrMalformed, v)
	}
	s.Version, s.Index = r.number(), r.number()
	s.Root = r.entry()
	for n := r.number(); n > 0 && r.err == nil; n-- {
		s.Entries = append(s.Entries, r.entry())
	}
	for n := r.number(); n > 0 && r.err == nil; n-- {
		s.Recent = append(s.Recent, Remembered{uint32(r.number()), r.number(), r.number(), r.number(), uint8(r.number())})
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%w: %d bytes too many", ErrMalformed, len(r.rest))
	}
	return s, r.err
}

// stateReader takes values off the front of rest; after the first error all are zero.
type stateReader struct {
	rest []byte
	err  error
}

func (r *stateReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.err, r.rest = fmt.Errorf("%w: bad number", ErrMalformed), nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *stateReader) bytes(limit uint64) []byte {
	n := r.number()
	if n > uint64(len(r.rest)) || n > limit {
		r.err, r.rest = fmt.Errorf("%w: bad length", ErrMalformed), nil
		return nil
	}
	if n == 0 {
		return nil
	}
	head := append([]byte(nil), r.rest[:n]...)
	r.rest = r.rest[n:]
	return head
}

func (r *stateReader) entry() (e Entry) {
	e.Inode, e.Parent, e.Version = r.number(), r.number(), r.number()
	e.Writer, e.Mtime, e.Dir = uint32(r.number()), int64(r.number()), r.number() == 1
	e.Name, e.Data = string(r.bytes(layout.MaxName)), r.bytes(layout.MaxFile)
	return e
}
