// Package bell makes changes that did not pass through this machine's kernel
// visible to inotify.
//
// The kernel raises an event only for what a process does below the mount, so
// a small process of its own repeats each change there: it creates, touches,
// removes and renames by the name alone, and the file system recognises the
// requests by their thread and answers them without effect. The process is
// separate because a file system that works below its own mount cannot be
// killed: its threads would wait for themselves.
//
// It also has the kernel ask again for names that it remembers. A file system
// can tell it so by itself, but is then made to wait for whoever works in the
// directory, who waits for an answer of the file system: killed at that moment,
// it would never end.
//
// The package owns the process, the pipe to it and the calls it makes. It
// never decides what to ring and never looks at content.
package bell

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"etcpve/cfs/tree"
)

// An Op says which call repeats the change.
type Op byte

// The changes that can be rung.
const (
	Create Op = iota + 1
	Mkdir
	Modify
	Touch
	Remove
	Rmdir
	Rename
	Look // no change: the kernel is to ask for the name again
)

// A Ring is one change to repeat. Paths are relative to the mount.
type Ring struct {
	Op   Op
	Path string
	To   string // new path of a rename
}

// Of returns the call that repeats a change.
func Of(c tree.Change) Ring {
	r := Ring{Path: c.Path}
	switch c.Kind {
	case tree.Created:
		r.Op = Create
		if c.Dir {
			r.Op = Mkdir
		}
	case tree.Modified:
		r.Op = Modify
	case tree.Touched:
		r.Op = Touch
	case tree.Removed:
		r.Op = Remove
		if c.Dir {
			r.Op = Rmdir
		}
	case tree.Renamed:
		r.Op, r.Path, r.To = Rename, c.From, c.Path
	}
	return r
}

// maxPath bounds a path on the pipe: what the kernel takes in one call.
const maxPath = 4096

// ready and done are the answers of the process: ready comes once with its
// thread id, done after each batch.
const done = 'd'

// append adds the ring to a batch: op, then both paths with their lengths.
func (r Ring) append(b []byte) []byte {
	b = append(b, byte(r.Op))
	for _, p := range []string{r.Path, r.To} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p)))
		b = append(b, p...)
	}
	return b
}

// encode returns a batch as it travels: a count, then the rings.
func encode(rings []Ring) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(rings)))
	for _, r := range rings {
		b = r.append(b)
	}
	return b
}

// decode reads one batch and passes its rings to do in order. It returns
// io.EOF when the pipe ended between two batches.
func decode(r *bufio.Reader, do func(Ring)) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	for range binary.LittleEndian.Uint32(n[:]) {
		ring, err := decodeRing(r)
		if err != nil {
			return fmt.Errorf("bell: read ring: %w", err)
		}
		do(ring)
	}
	return nil
}

var errPath = errors.New("path is too long")

func decodeRing(r *bufio.Reader) (ring Ring, err error) {
	op, err := r.ReadByte()
	if err != nil {
		return ring, err
	}
	ring.Op = Op(op)
	for _, p := range []*string{&ring.Path, &ring.To} {
		var n [2]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return ring, err
		}
		size := binary.LittleEndian.Uint16(n[:])
		if size > maxPath {
			return ring, errPath
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return ring, err
		}
		*p = string(b)
	}
	return ring, nil
}
