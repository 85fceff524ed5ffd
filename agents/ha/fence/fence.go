// Package fence shares the node's one watchdog among all who need it.
//
// It owns the watchdog device: while every client keeps saying that it is well,
// the device is kept quiet; when one falls silent for 60 seconds, or is gone
// without a word, the device is left alone and resets the node. It never resets
// anything by itself, except through a Substitute on nodes without a device, and
// it gives up the device only when no client is left.
//
// A client connects to a unix socket. Any byte it sends is a sign of life; the
// byte V, as for the device itself, says that it ends in order.
package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// Patience is how long a client may be silent.
	Patience = 60 * time.Second
	// keepEvery is how often the device is kept quiet. Devices wait 10 seconds.
	keepEvery = time.Second

	alive    = "\x00"
	farewell = "V"
)

// A Mux keeps a watchdog device quiet for its clients.
type Mux struct {
	// Patience is how long a client may be silent; New sets it to that of the protocol.
	Patience time.Duration

	device io.WriteCloser
	log    *slog.Logger

	mu      sync.Mutex             // guards what follows
	heard   map[net.Conn]time.Time // when a client was last heard of
	expired bool                   // the node is about to be reset
}

// New returns a multiplexer for a device.
func New(device io.WriteCloser, log *slog.Logger) *Mux {
	return &Mux{Patience: Patience, device: device, log: log, heard: map[net.Conn]time.Time{}}
}

// Run serves clients until ctx ends. The device is then switched off if no
// client is left; otherwise it goes on and resets the node.
func (m *Mux) Run(ctx context.Context, l net.Listener) error {
	var clients sync.WaitGroup
	clients.Go(func() { m.accept(l, &clients) })
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-keep.C:
			err = m.keep(now)
		}
	}
	err = errors.Join(err, l.Close())
	m.hangUp()
	clients.Wait() // a farewell may be on its way
	if !m.safe() {
		m.log.Error("watchdog multiplexer ended with active clients, the node will be reset")
		return errors.Join(err, m.device.Close())
	}
	_, werr := io.WriteString(m.device, farewell)
	return errors.Join(err, werr, m.device.Close())
}

// accept serves everybody who connects, until the listener is closed.
func (m *Mux) accept(l net.Listener, clients *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.heard[conn] = time.Now()
		m.mu.Unlock()
		clients.Go(func() { m.serve(conn) })
	}
}

// serve listens to one client. Whoever is gone without a V stays in the list,
// and expires.
func (m *Mux) serve(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		m.mu.Lock()
		for _, b := range buf[:n] {
			if string(b) == farewell {
				delete(m.heard, conn)
				m.mu.Unlock()
				return
			}
			m.heard[conn] = time.Now()
		}
		m.mu.Unlock()
		if err != nil {
			m.log.Error("watchdog client is gone without ending in order")
			return
		}
	}
}

// keep keeps the device quiet if all clients are well, and off if there are none.
func (m *Mux) keep(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.heard {
		if !m.expired && now.Sub(at) > m.Patience {
			m.expired = true
			m.log.Error("watchdog client expired, the node will be reset")
		}
	}
	if m.expired {
		return nil
	}
	message := alive
	if len(m.heard) == 0 {
		message = farewell
	}
	if _, err := io.WriteString(m.device, message); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

func (m *Mux) safe() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.heard) == 0 && !m.expired
}

// hangUp takes nothing more from the clients, but what they have said is still heard.
func (m *Mux) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for conn := range m.heard {
		if c, ok := conn.(interface{ CloseRead() error }); ok {
			c.CloseRead()
		} else {
			conn.Close()
		}
	}
}

// A Client is one connection to a multiplexer. It is a ha.Watchdog.
type Client struct {
	dial func() (net.Conn, error)
	log  *slog.Logger
	conn net.Conn
}

// NewClient returns a client that is not connected yet.
func NewClient(socket string, log *slog.Logger) *Client {
	return &Client{dial: func() (net.Conn, error) { return net.Dial("unix", socket) }, log: log}
}

// Open connects. From then on the node is reset without updates.
func (c *Client) Open() error {
	conn, err := c.dial()
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	c.conn = conn
	return nil
}

// Update is a sign of life.
func (c *Client) Update() { c.send(alive) }

// Close ends in order.
func (c *Client) Close() {
	c.send(farewell)
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *Client) send(message string) {
	if c.conn == nil {
		return
	}
	if _, err := io.WriteString(c.conn, message); err != nil {
		c.log.Error("watchdog update failed", "err", err)
	}
}
