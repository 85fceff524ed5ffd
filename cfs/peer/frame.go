package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxBody is how many bytes one message may carry: a whole file of the largest
// size with room for what describes it, in several pieces where more is needed.
const MaxBody = 4 << 20

// A role says what a frame is for.
type role uint8

const (
	keepalive role = iota // nothing but a sign of life
	message               // needs no answer
	request               // is answered by a response or a failure with its id
	response
	failure // body is the error's text
)

// header is the size of what precedes the body: its length in bytes, the role,
// the kind, the id that joins a request to its answer.
const header = 4 + 1 + 1 + 8

// A frame is one message on a stream.
type frame struct {
	role role
	kind uint8
	id   uint64
	body []byte
}

var errFrame = errors.New("malformed frame")

// write appends the frame to w without flushing it.
func (f frame) write(w *bufio.Writer) error {
	if len(f.body) > MaxBody {
		return fmt.Errorf("message of %d bytes, more than %d", len(f.body), MaxBody)
	}
	var h [header]byte
	binary.BigEndian.PutUint32(h[:], uint32(len(f.body)))
	h[4], h[5] = byte(f.role), f.kind
	binary.BigEndian.PutUint64(h[6:], f.id)
	if _, err := w.Write(h[:]); err != nil {
		return err
	}
	_, err := w.Write(f.body)
	return err
}

// readFrame reads one frame. It reserves memory only as the bytes arrive, so a
// lying length costs nothing.
func readFrame(r *bufio.Reader) (frame, error) {
	var h [header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(h[:])
	f := frame{role: role(h[4]), kind: h[5], id: binary.BigEndian.Uint64(h[6:])}
	if size > MaxBody || f.role > failure {
		return frame{}, errFrame
	}
	if size == 0 {
		return f, nil
	}
	const step = 64 << 10
	f.body = make([]byte, 0, min(size, step))
	for uint32(len(f.body)) < size {
		have := len(f.body)
		f.body = append(f.body, make([]byte, min(int(size)-have, step))...)
		if _, err := io.ReadFull(r, f.body[have:]); err != nil {
			return frame{}, io.ErrUnexpectedEOF
		}
	}
	return f, nil
}
