package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"
)

// maxDatagram is the largest one that there can be.
const maxDatagram = 64 << 10

// acceptAgain is how long to wait after a connection could not be accepted, as
// when there are no more descriptors.
const acceptAgain = 100 * time.Millisecond

// maxStreams is how many connections of others may be open at a time. A member needs one
// for some milliseconds every few seconds; nobody needs to have shown anything yet.
const maxStreams = 64

// A Route is one of the ways to a node.
type Route struct{ From, To netip.AddrPort }

// wire is how the protocol reaches other nodes. It does what the library's own
// transport does, but reads all datagrams of a link into one buffer: a fresh one of
// 64 KiB for each keeps the garbage collector of an idle node busy. Where two nodes
// have several links, each datagram takes all of them, and the first copy counts.
type wire struct {
	mu      sync.RWMutex // guards links
	links   []link       // the first is what others know
	routes  func(to netip.AddrPort) []Route
	copies  copies
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	reading sync.WaitGroup
	inside  inside
	calls   context.Context // of connections to others
	hangUp  context.CancelFunc
}

// A link is one of this node's own addresses.
type link struct {
	own       netip.AddrPort
	datagrams *net.UDPConn
	listener  *net.TCPListener
}

// newWire listens on the given addresses, of which others know the first. routes,
// which may be nil, returns all ways to the node that has an address.
func newWire(own []netip.AddrPort, routes func(netip.AddrPort) []Route) (_ *wire, err error) {
	w := &wire{
		routes: routes, copies: copies{seen: map[mark]bool{}},
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	w.calls, w.hangUp = context.WithCancel(context.Background())
	if len(own) == 0 {
		return nil, errors.New("no address")
	}
	if err := w.relink(own); err != nil {
		return nil, errors.Join(err, w.Shutdown())
	}
	return w, nil
}

// relink makes these addresses, the first of which stays what it was, the ones to listen
// on. Those that cannot be opened are left out and named by the error.
func (w *wire) relink(own []netip.AddrPort) (failed error) {
	old := slices.Clone(w.all())
	var links []link
	for _, address := range own {
		if i := slices.IndexFunc(old, func(l link) bool { return l.own == address }); i >= 0 {
			links, old = append(links, old[i]), slices.Delete(old, i, i+1)
			continue
		}
		l, err := listen(address)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", address, err))
			continue
		}
		links = append(links, l)
		w.reading.Go(func() { w.read(l) })
		w.reading.Go(func() { w.accept(l) })
	}
	w.mu.Lock()
	w.links = links
	w.mu.Unlock()
	for _, l := range old {
		failed = errors.Join(failed, l.close())
	}
	return failed
}

// all returns the links, which the caller does not change.
func (w *wire) all() []link {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.links
}

// listen opens one link. It does not matter whether the machine has the address just now.
func listen(own netip.AddrPort) (l link, err error) {
	config := net.ListenConfig{Control: FreeBind}
	l.own = own
	listener, err := config.Listen(context.Background(), "tcp", own.String())
	if err != nil {
		return l, err
	}
	datagrams, err := config.ListenPacket(context.Background(), "udp", listener.Addr().String())
	if err != nil {
		return l, errors.Join(err, listener.Close())
	}
	l.listener, l.datagrams = listener.(*net.TCPListener), datagrams.(*net.UDPConn)
	return l, nil
}

func (l link) close() error { return errors.Join(l.listener.Close(), l.datagrams.Close()) }

// FreeBind lets a socket be bound to an address that the machine does not have yet,
// as that of an interface which comes up later. It is for net.ListenConfig.
func FreeBind(network, _ string, raw syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if network[len(network)-1] == '6' {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failed)
}

func (w *wire) read(l link) {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := l.datagrams.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 || len(w.all()) > 1 && !w.copies.first(buffer[:n]) {
			continue
		}
		select {
		case w.packets <- &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: from, Timestamp: time.Now()}:
		case <-w.closed:
			return
		}
	}
}

func (w *wire) accept(l link) {
	for {
		conn, err := l.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-w.closed:
				return
			case <-time.After(acceptAgain):
			}
			continue
		}
		select {
		case w.streams <- w.inside.enter(conn):
		case <-w.closed:
			conn.Close()
			return
		}
	}
}

// inside is the connections of others that are open. When there are too many, the
// oldest goes: it is not one of a member.
type inside struct {
	mu   sync.Mutex // guards open
	open []*visit
}

// A visit is one of them.
type visit struct {
	net.Conn
	in *inside
}

func (in *inside) enter(conn net.Conn) *visit {
	v := &visit{conn, in}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.open = append(in.open, v)
	if len(in.open) > maxStreams {
		in.open[0].Conn.Close()
		in.open = slices.Delete(in.open, 0, 1)
	}
	return v
}

// Close implements net.Conn.
func (v *visit) Close() error {
	v.in.mu.Lock()
	if i := slices.Index(v.in.open, v); i >= 0 {
		v.in.open = slices.Delete(v.in.open, i, i+1)
	}
	v.in.mu.Unlock()
	return v.Conn.Close()
}

// ways returns the routes to an address.
func (w *wire) ways(address string) ([]Route, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if w.routes != nil {
		if routes := w.routes(to); len(routes) > 0 {
			return routes, nil
		}
	}
	return []Route{{w.all()[0].own, to}}, nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (w *wire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	address := w.all()[0].listener.Addr()
	own, ok := address.(*net.TCPAddr)
	if !ok {
		return nil, 0, fmt.Errorf("gossip: %v is no address", address)
	}
	return own.IP, own.Port, nil
}

// WriteTo implements memberlist.Transport. It fails when no link takes the bytes.
func (w *wire) WriteTo(b []byte, address string) (time.Time, error) {
	routes, err := w.ways(address)
	if err != nil {
		return time.Time{}, err
	}
	taken, failed, links := false, error(nil), w.all()
	for _, r := range routes {
		i := max(0, slices.IndexFunc(links, func(l link) bool { return l.own == r.From }))
		if _, err := links[i].datagrams.WriteToUDPAddrPort(b, r.To); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		taken = true
	}
	if taken {
		failed = nil
	}
	return time.Now(), failed
}

// PacketCh implements memberlist.Transport.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

// DialTimeout implements memberlist.Transport. Each link gets its part of the time.
func (w *wire) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	routes, err := w.ways(address)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, r := range routes {
		dialer := net.Dialer{Timeout: min(timeout, timeout/time.Duration(len(routes)))}
		conn, err := dialer.DialContext(w.calls, "tcp", r.To.String())
		if err == nil {
			return call{conn, context.AfterFunc(w.calls, func() { conn.Close() })}, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// A call is a connection to another node. It ends with the calls of its wire: who is
// asked may be cut off, and the protocol would wait for longer than anybody wants to wait
// for the end.
type call struct {
	net.Conn
	forget func() bool
}

// Close implements net.Conn.
func (c call) Close() error {
	c.forget()
	return c.Conn.Close()
}

// StreamCh implements memberlist.Transport.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// Shutdown implements memberlist.Transport.
func (w *wire) Shutdown() error {
	w.hangUp()
	close(w.closed)
	err := w.close()
	w.reading.Wait()
	return err
}

func (w *wire) close() (err error) {
	for _, l := range w.all() {
		err = errors.Join(err, l.close())
	}
	return err
}

// A mark tells one datagram from another: each begins with a number that its sender
// uses once.
type mark [16]byte

// rememberMost is how many datagrams are remembered: copies come within the difference
// of the links' delays.
const rememberMost = 1024

// copies remembers the datagrams that have come last.
type copies struct {
	mu   sync.Mutex // guards what follows
	seen map[mark]bool
	ring [rememberMost]mark
	next int
}

// first reports whether a datagram is not a copy of one that came by another link.
func (c *copies) first(b []byte) bool {
	var m mark
	copy(m[:], b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[m] {
		return false
	}
	delete(c.seen, c.ring[c.next])
	c.ring[c.next], c.seen[m] = m, true
	c.next = (c.next + 1) % rememberMost
	return true
}
