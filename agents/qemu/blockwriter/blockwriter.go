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

// startWait is how long qemu-nbd may take to open a volume.
const startWait = time.Minute

// A Writer is one volume that is open.
type Writer struct {
	conn  net.Conn
	in    *bufio.Reader
	ended chan error // of qemu-nbd
	dir   string
	stop  func()
	id    uint64
}

// Open opens a volume, as --image-opts of QEMU's tools has it. Close has to be
// called. When ctx ends, nothing more is written.
func Open(ctx context.Context, run host.System, opts string) (*Writer, error) {
	dir, err := os.MkdirTemp("", "blockwriter") // only its maker may enter it
	if err != nil {
		return nil, err
	}
	server, stop := context.WithCancel(ctx)
	w := &Writer{ended: make(chan error, 1), dir: dir, stop: stop}
	socket := filepath.Join(dir, "nbd")
	argv := []string{"qemu-nbd", "--socket", socket, "--shared=1", "--cache=none", "--aio=threads", "--discard=unmap", "--image-opts", opts}
	go func() {
		_, err := run.Run(server, host.Command{Argv: argv})
		w.ended <- err
	}()
	if err = w.connect(ctx, socket); err == nil {
		err = w.negotiate()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("qemu-nbd: %w", err), w.abandon())
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
			w.ended <- err
			return errors.Join(err, errors.New("it has ended"))
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
		return errors.Join(fmt.Errorf("qemu-nbd: %w", err), w.abandon())
	}
	err = <-w.ended
	w.stop()
	return errors.Join(err, os.RemoveAll(w.dir))
}

// abandon ends qemu-nbd.
func (w *Writer) abandon() error {
	if w.conn != nil {
		w.conn.Close()
	}
	w.stop()
	<-w.ended
	return os.RemoveAll(w.dir)
}
