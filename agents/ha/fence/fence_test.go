package fence

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/agents/ha"
)

var _ ha.Watchdog = (*Client)(nil)

// device records what is written to it.
type device struct {
	mu      sync.Mutex
	written strings.Builder
	closed  bool
	fail    error
}

func (d *device) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written.Write(p)
	return len(p), d.fail
}

func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// text returns what was written since the last call of kept.
func (d *device) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written.String()
}

// kept returns how often the device was kept quiet since the last call.
func (d *device) kept() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := strings.Count(d.written.String(), alive)
	d.written.Reset()
	return n
}

// pipes is a listener for connections inside the process.
type pipes struct {
	conns chan net.Conn
	end   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.end:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.end); return nil }
func (p *pipes) Addr() net.Addr { return nil }

func (p *pipes) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// run runs a multiplexer in virtual time until play returns, and returns what
// was written to the device after that.
func run(t *testing.T, play func(d *device, connect func() *Client)) (ending string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, p := &device{}, &pipes{make(chan net.Conn), make(chan struct{})}
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- New(d, log).Run(ctx, p) }()
		play(d, func() *Client {
			c := &Client{dial: p.dial, log: log}
			if err := c.Open(); err != nil {
				t.Fatal(err)
			}
			return c
		})
		synctest.Wait()
		d.kept()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !d.closed {
			t.Error("device is still open")
		}
		ending = d.text()
	})
	return ending
}

func TestWithoutClientsTheDeviceIsOff(t *testing.T) {
	ending := run(t, func(d *device, _ func() *Client) {
		time.Sleep(100*time.Second + time.Millisecond)
		if text := d.text(); text != strings.Repeat(farewell, 100) {
			t.Errorf("wrote %q in 100 seconds", text)
		}
	})
	if ending != farewell {
		t.Errorf("ends with %q", ending)
	}
}

// TestAFarewellThatIsOnItsWayIsHeard ends multiplexers as soon as their client has left.
func TestAFarewellThatIsOnItsWayIsHeard(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for i := range 500 {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		d, done := &device{}, make(chan error, 1)
		m := New(d, log)
		go func() { done <- m.Run(ctx, l) }()
		c := NewClient(socket, log)
		if err := c.Open(); err != nil {
			t.Fatal(err)
		}
		for m.safe() { // until it is listened to
			time.Sleep(time.Millisecond)
		}
		c.Update()
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d.text() != farewell {
			t.Fatalf("round %d: ends with %q", i, d.text())
		}
	}
}

func TestASilentClientExpires(t *testing.T) {
	ending := run(t, func(d *device, connect func() *Client) {
		good, bad := connect(), connect()
		for range 6 {
			time.Sleep(10 * time.Second)
			good.Update()
		}
		time.Sleep(2 * time.Second)
		d.kept()
		for range 3 {
			time.Sleep(10 * time.Second)
			good.Update()
		}
		bad.Update() // too late
		time.Sleep(10 * time.Second)
		if n := d.kept(); n != 0 {
			t.Errorf("kept %d times after a client expired", n)
		}
		good.Close()
		bad.Close()
	})
	if ending != "" {
		t.Errorf("ends with %q", ending)
	}
}

func TestAClientThatEndsInOrderIsForgotten(t *testing.T) {
	ending := run(t, func(d *device, connect func() *Client) {
		c := connect()
		for range 20 {
			c.Update()
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Millisecond)
		if n := d.kept(); n != 200 {
			t.Errorf("kept %d times in 200 seconds", n)
		}
		c.Close()
		c.Close()
		time.Sleep(200 * time.Second)
		if n := d.kept(); n != 0 {
			t.Errorf("kept %d times without a client", n)
		}
	})
	if ending != farewell {
		t.Errorf("ends with %q", ending)
	}
}

func TestAClientThatIsGoneExpires(t *testing.T) {
	run(t, func(d *device, connect func() *Client) {
		connect().conn.Close()
		time.Sleep(Patience + 2*time.Second)
		d.kept()
		time.Sleep(10 * time.Second)
		if n := d.kept(); n != 0 {
			t.Errorf("kept %d times after a client was gone", n)
		}
	})
}

func TestActiveClientsKeepTheDeviceOn(t *testing.T) {
	if ending := run(t, func(_ *device, connect func() *Client) { connect().Update() }); ending != "" {
		t.Errorf("ends with %q", ending)
	}
}

func TestAFailingDeviceEndsTheMultiplexer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &device{fail: errors.New("gone")}, &pipes{make(chan net.Conn), make(chan struct{})}
		if err := New(d, slog.New(slog.DiscardHandler)).Run(t.Context(), p); !errors.Is(err, d.fail) {
			t.Error(err)
		}
	})
}

func TestClientOverASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "mux.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	d, log := &device{}, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	m := New(d, log)
	go func() { done <- m.Run(ctx, l) }()
	c := NewClient(socket, log)
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	c.Update()
	for deadline := time.Now().Add(time.Minute); m.safe(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("client is not seen")
		}
	}
	c.Close()
	for deadline := time.Now().Add(time.Minute); !m.safe(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("client is still there")
		}
	}
	cancel()
	if err := <-done; err != nil || !strings.HasSuffix(d.written.String(), farewell) {
		t.Errorf("%v, device %q", err, d.written.String())
	}
	if err := NewClient(socket, log).Open(); err == nil {
		t.Error("connects to nobody")
	}
}
