package tunnel

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxFrame is the largest piece that travels, and so the largest message.
const maxFrame = 1 << 20

// broken is the length that stands for a stream that its sender gave up.
const broken = ^uint32(0)

// ErrBroken says that the sender of a stream has given it up.
var ErrBroken = errors.New("the other node has given up")

// ErrTooLong says that more came than may.
var ErrTooLong = errors.New("more data than was announced")

func writeFrame(w io.Writer, p []byte) error {
	// In one piece: the other end sees a length with what belongs to it.
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(p)), uint32(len(p))), p...))
	return err
}

func readLength(r io.Reader) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // an end is always said
		}
		return 0, err
	}
	switch n := binary.BigEndian.Uint32(head[:]); {
	case n == broken:
		return 0, ErrBroken
	case n > maxFrame:
		return 0, fmt.Errorf("a piece of %d bytes: %w", n, ErrTooLong)
	default:
		return int(n), nil
	}
}

// Send sends a message.
func (c *Conn) Send(message any) error {
	text, err := json.Marshal(message)
	if err == nil && len(text) > maxFrame {
		err = fmt.Errorf("a message of %d bytes: %w", len(text), ErrTooLong)
	}
	if err != nil {
		return err
	}
	return writeFrame(c, text)
}

// Receive reads a message.
func (c *Conn) Receive(message any) error {
	n, err := readLength(c)
	if err != nil {
		return err
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(c, text); err != nil {
		return err
	}
	return json.Unmarshal(text, message)
}

// A Sender is the writing end of a stream. Close ends the stream as it should
// end; one that is not closed was given up.
type Sender struct {
	to    io.Writer
	limit int64 // bytes per second; 0 for none
	began time.Time
	sent  int64
	ctx   context.Context
}

// Stream begins a stream of at most limit bytes a second, 0 for any number.
func (c *Conn) Stream(ctx context.Context, limit int64) *Sender {
	return &Sender{to: c, limit: limit, began: time.Now(), ctx: ctx}
}

// Write sends p, not faster than it may.
func (s *Sender) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), maxFrame/4)]
		if err := writeFrame(s.to, piece); err != nil {
			return n, err
		}
		n += len(piece)
		s.sent += int64(len(piece))
		p = p[len(piece):]
		if err := s.pace(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// pace waits until as much may have been sent as was.
func (s *Sender) pace() error {
	if s.limit <= 0 {
		return s.ctx.Err()
	}
	due := s.began.Add(time.Duration(float64(s.sent) / float64(s.limit) * float64(time.Second)))
	select {
	case <-time.After(time.Until(due)):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Sent is how many bytes were sent.
func (s *Sender) Sent() int64 { return s.sent }

// Close says that all was sent.
func (s *Sender) Close() error { return writeFrame(s.to, nil) }

// Abandon says that the rest does not come.
func (s *Sender) Abandon() error {
	_, err := s.to.Write(binary.BigEndian.AppendUint32(nil, broken))
	return err
}

// A reader is the reading end of a stream.
type reader struct {
	from  io.Reader
	piece int   // bytes left of the present piece
	room  int64 // bytes that may still come
	end   error
}

// Reader reads a stream of at most limit bytes. It ends with io.EOF only if its
// sender has closed it.
func (c *Conn) Reader(limit int64) io.Reader { return &reader{from: c, room: limit} }

func (r *reader) Read(p []byte) (n int, err error) {
	if len(p) == 0 || r.end != nil {
		return 0, r.end
	}
	if r.piece == 0 {
		switch r.piece, r.end = readLength(r.from); {
		case r.end != nil:
			return 0, r.end
		case r.piece == 0:
			r.end = io.EOF
			return 0, r.end
		}
		if r.room -= int64(r.piece); r.room < 0 {
			r.end = ErrTooLong
			return 0, r.end
		}
	}
	n, err = r.from.Read(p[:min(len(p), r.piece)])
	r.piece -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	r.end = err
	return n, err
}
