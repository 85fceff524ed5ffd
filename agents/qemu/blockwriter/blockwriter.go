// Package blockwriter writes into a volume of any format and at any place, piece
// by piece.
//
// It owns a qemu-nbd with the volume and its side of the NBD protocol: the fixed
// new style without options but the one that names the export, one request at a
// time. It never creates or resizes a volume, and never reads one.
package blockwriter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"etcpve/agents/host"
)

// Numbers of the protocol.
const (
	serverMagic  = "NBDMAGICIHAVEOPT"
	optionMagic  = "IHAVEOPT"
	noZeroes     = 2 // flags of server and client
	fixedStyle   = 1
	exportName   = 1 // the option that ends the negotiation
	requestMagic = 0x25609513
	replyMagic   = 0x67446698
	cmdWrite     = 1
	cmdEnd       = 2
	cmdFlush     = 3
)

const (
	startWait = time.Minute      // qemu-nbd may take to open a volume
	endWait   = 10 * time.Second // and to end when its client has gone
)

// A Writer is one volume that is open.
type Writer struct {
	conn  net.Conn
	in    *bufio.Reader
	ended chan error // of qemu-nbd
	stop  func()
	id    uint64
}

// Open opens a volume, as --image-opts of QEMU's tools has it. Close has to be
// called. When ctx ends, nothing more is written.
func Open(ctx context.Context, run host.System, opts string) (*Writer, error) {
	// Only its maker may enter it. Nobody needs it once there is a connection, and
	// a program that is killed while it writes leaves nothing.
	dir, err := os.MkdirTemp("", "blockwriter")
	if err != nil {
		return nil, err
	}
	server, stop := context.WithCancel(ctx)
	w := &Writer{ended: make(chan error, 1), stop: stop}
	socket := filepath.Join(dir, "nbd")
	argv := []string{"qemu-nbd", "--socket", socket, "--shared=1", "--cache=none", "--aio=threads", "--discard=unmap", "--image-opts", opts}
	go func() {
		_, err := run.Run(server, host.Command{Argv: argv})
		w.ended <- err
	}()
	err = w.connect(ctx, socket)
	if err == nil {
		err = w.negotiate()
	}
	err = errors.Join(err, os.RemoveAll(dir))
	if err != nil {
		return nil, fmt.Errorf("qemu-nbd: %w", errors.Join(w.abandon(), err))
	}
	context.AfterFunc(server, func() { w.conn.Close() })
	return w, nil
}

// connect waits for the socket.
func (w *Writer) connect(ctx context.Context, socket string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		if w.conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socket); err == nil {
			w.in = bufio.NewReader(w.conn)
			return nil
		}
		select {
		case err := <-w.ended:
			w.ended <- err // for abandon
			return errors.New("it has ended")
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Writer) negotiate() error {
	greeting := make([]byte, 18)
	if _, err := io.ReadFull(w.in, greeting); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint16(greeting[16:])
	if string(greeting[:16]) != serverMagic || flags&(fixedStyle|noZeroes) != fixedStyle|noZeroes {
		return errors.New("it speaks another protocol")
	}
	answer := binary.BigEndian.AppendUint32(nil, fixedStyle|noZeroes)
	answer = append(answer, optionMagic...)
	answer = binary.BigEndian.AppendUint32(answer, exportName)
	answer = binary.BigEndian.AppendUint32(answer, 0) // the export without a name
	if _, err := w.conn.Write(answer); err != nil {
		return err
	}
	_, err := io.ReadFull(w.in, make([]byte, 10)) // size and flags
	return err
}

// WriteAt writes a piece, which has to lie inside of the volume.
func (w *Writer) WriteAt(data []byte, offset int64) (int, error) {
	if err := w.request(cmdWrite, offset, data); err != nil {
		return 0, fmt.Errorf("qemu-nbd: write %d bytes at %d: %w", len(data), offset, err)
	}
	return len(data), nil
}

// request sends one and waits for its answer.
func (w *Writer) request(command uint16, offset int64, data []byte) error {
	w.id++
	head := binary.BigEndian.AppendUint32(nil, requestMagic)
	head = binary.BigEndian.AppendUint16(head, 0)
	head = binary.BigEndian.AppendUint16(head, command)
	head = binary.BigEndian.AppendUint64(head, w.id)
	head = binary.BigEndian.AppendUint64(head, uint64(offset))
	head = binary.BigEndian.AppendUint32(head, uint32(len(data)))
	if _, err := w.conn.Write(append(head, data...)); err != nil || command == cmdEnd {
		return err
	}
	var reply [16]byte
	if _, err := io.ReadFull(w.in, reply[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(reply[:]) != replyMagic || binary.BigEndian.Uint64(reply[8:]) != w.id {
		return errors.New("it answered something else")
	}
	if code := binary.BigEndian.Uint32(reply[4:]); code != 0 {
		return fmt.Errorf("error %d", code)
	}
	return nil
}

// Close makes what was written last, and lets go of the volume.
func (w *Writer) Close() error {
	err := w.request(cmdFlush, 0, nil)
	if err == nil {
		err = w.request(cmdEnd, 0, nil) // after which qemu-nbd ends by itself
	}
	if err != nil {
		return fmt.Errorf("qemu-nbd: %w", errors.Join(w.abandon(), err))
	}
	err = <-w.ended
	w.stop()
	return err
}

// abandon ends qemu-nbd and returns what it says, which it does if it was the one to
// hang up: it listens before it opens the volume.
func (w *Writer) abandon() error {
	defer w.stop()
	if w.conn != nil {
		w.conn.Close()
	}
	select {
	case err := <-w.ended:
		return err
	case <-time.After(endWait):
	}
	w.stop()
	<-w.ended
	return nil
}
