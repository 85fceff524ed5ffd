// Package monitor speaks QMP, the machine protocol of QEMU, with one guest.
//
// It owns a connection: one command at a time, each under a context, and a
// queue of events that never makes a command wait. It never decides what to
// send and never reconnects by itself.
//
// The words of the protocol come from go-qemu's qmp package. Its SocketMonitor
// is not used, for four reasons: Run takes no context, so that a hung QEMU
// hangs its caller; an unread event blocks every later reply; a reply aliases
// the scanner's buffer, which the next line overwrites; and a line of more than
// 64 KiB, which query-block of a guest with some thirty disks is, ends the
// connection.
package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

// An Event is something QEMU says unasked, such as SHUTDOWN.
type Event = qmp.Event

// A Version is that of the QEMU that answers.
type Version = qmp.Version

// Limits of one connection.
const (
	greeting   = 5 * time.Second // QEMU greets at once unless another client holds the socket
	maxEvents  = 256             // unread events kept; older ones give way
	maxReplies = 16              // there is one to expect; others answer nothing we sent
	maxLine    = 16 << 20        // bytes in one line of QMP
)

// ErrClosed says that QEMU, or Close, has ended the connection.
var ErrClosed = errors.New("monitor closed")

// An Error is QEMU's refusal of a command.
type Error struct{ Command, Class, Desc string }

// Error returns QEMU's own words after the name of the command.
func (e *Error) Error() string { return e.Command + ": " + e.Desc }

// A Monitor is a connection to one QEMU. Its methods may be called at the same
// time from many goroutines.
type Monitor struct {
	Version Version

	conn    net.Conn
	turn    chan struct{} // holds one token: the right to send a command
	replies chan reply
	events  chan Event
	done    chan struct{} // closed when the reader has ended
	nextID  uint64        // guarded by turn
}

type request struct {
	qmp.Command
	ID uint64 `json:"id"`
}

type reply struct {
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

type message struct {
	reply
	Event
	Greeting *struct {
		Version Version `json:"version"`
	} `json:"QMP"`
}

// Dial connects to the QMP socket at path and negotiates. A socket serves one
// client at a time: while another one is connected, Dial fails after a while.
func Dial(ctx context.Context, path string) (*Monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	conn, err := dialUnix(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	m := &Monitor{
		conn:    conn,
		turn:    make(chan struct{}, 1),
		replies: make(chan reply, maxReplies),
		events:  make(chan Event, maxEvents),
		done:    make(chan struct{}),
	}
	m.turn <- struct{}{}
	hello := make(chan Version, 1)
	go m.read(hello)
	select {
	case m.Version = <-hello:
	case <-m.done:
		return nil, fmt.Errorf("monitor: %s: %w", path, ErrClosed)
	case <-ctx.Done():
		m.Close()
		return nil, fmt.Errorf("monitor: %s: no greeting, another client may be connected: %w", path, ctx.Err())
	}
	if err := m.Run(ctx, "qmp_capabilities", nil, nil); err != nil {
		m.Close()
		return nil, fmt.Errorf("monitor: %s: %w", path, err)
	}
	return m, nil
}

// dialUnix reaches paths beyond the 107 bytes of a socket address through the
// directory's descriptor.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) < 108 {
		return d.DialContext(ctx, "unix", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// Run executes a command and decodes what it returns into result, which may be
// nil. A command whose context ends is not taken back: QEMU may still carry it
// out, and the connection is closed, because its late reply would have no taker.
func (m *Monitor) Run(ctx context.Context, command string, args, result any) error {
	select {
	case <-m.turn:
		defer func() { m.turn <- struct{}{} }()
	case <-m.done:
		return fmt.Errorf("%s: %w", command, ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, ctx.Err())
	}
	m.nextID++
	for len(m.replies) > 0 {
		<-m.replies
	}
	line, err := json.Marshal(request{qmp.Command{Execute: command, Args: args}, m.nextID})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if err := m.send(ctx, line); err != nil {
		m.conn.Close() // half a line may have gone out
		return fmt.Errorf("%s: %w: %w", command, ErrClosed, err)
	}
	for {
		select {
		case r := <-m.replies:
			if r.ID == nil || *r.ID == m.nextID {
				return r.decode(command, result)
			}
		case <-m.done:
			return fmt.Errorf("%s: %w", command, ErrClosed)
		case <-ctx.Done():
			m.conn.Close()
			return fmt.Errorf("%s: %w", command, ctx.Err())
		}
	}
}

func (m *Monitor) send(ctx context.Context, line []byte) error {
	deadline, _ := ctx.Deadline() // the zero time means none
	if err := m.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := m.conn.Write(append(line, '\n'))
	return err
}

func (r reply) decode(command string, result any) error {
	if r.Error != nil {
		return &Error{Command: command, Class: r.Error.Class, Desc: r.Error.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, result); err != nil {
		return fmt.Errorf("%s: reply: %w", command, err)
	}
	return nil
}

// Events delivers what QEMU says unasked. Whoever does not read loses the
// oldest events, never a reply. The channel is closed with the connection.
func (m *Monitor) Events() <-chan Event { return m.events }

// Done is closed when the connection has ended.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Close ends the connection and waits for the reader.
func (m *Monitor) Close() error {
	err := m.conn.Close()
	<-m.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// read sorts QEMU's lines into replies and events until the connection ends.
func (m *Monitor) read(hello chan<- Version) {
	defer close(m.done)
	defer close(m.events)
	defer m.conn.Close()
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		var msg message
		switch err := json.Unmarshal(lines.Bytes(), &msg); {
		case err != nil: // not QMP; nothing later can be trusted either
			return
		case msg.Greeting != nil:
			offer(hello, msg.Greeting.Version)
		case msg.Event.Event != "":
			m.keep(msg.Event)
		default:
			offer(m.replies, msg.reply)
		}
	}
}

// keep queues an event; the reader is the only sender, so one place is enough.
func (m *Monitor) keep(e Event) {
	for {
		select {
		case m.events <- e:
			return
		default:
		}
		select {
		case <-m.events:
		default:
		}
	}
}

func offer[T any](to chan<- T, v T) {
	select {
	case to <- v:
	default:
	}
}
