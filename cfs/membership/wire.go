package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxDatagram is the largest one that there can be.
const maxDatagram = 64 << 10

// acceptAgain is how long to wait after a connection could not be accepted, as
// when there are no more descriptors.
const acceptAgain = 100 * time.Millisecond

// wire is how the protocol reaches other nodes. It does what the library's own
// transport does, but reads all datagrams into one buffer: a fresh one of 64 KiB
// for each keeps the garbage collector of an idle node busy.
type wire struct {
	datagrams *net.UDPConn
	listener  *net.TCPListener
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	closed    chan struct{}
	reading   sync.WaitGroup
}

func newWire(listen netip.AddrPort) (*wire, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(listen))
	if err != nil {
		return nil, err
	}
	datagrams, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		listener.Close()
		return nil, err
	}
	w := &wire{datagrams: datagrams, listener: listener, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{})}
	w.reading.Go(w.read)
	w.reading.Go(w.accept)
	return w, nil
}

func (w *wire) read() {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := w.datagrams.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 {
			continue
		}
		select {
		case w.packets <- &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: from, Timestamp: time.Now()}:
		case <-w.closed:
			return
		}
	}
}

func (w *wire) accept() {
	for {
		conn, err := w.listener.AcceptTCP()
		if err != nil {
			select {
			case <-w.closed:
				return
			case <-time.After(acceptAgain):
			}
			continue
		}
		select {
		case w.streams <- conn:
		case <-w.closed:
			conn.Close()
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (w *wire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	own, ok := w.listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, 0, fmt.Errorf("gossip: %v is no address", w.listener.Addr())
	}
	return own.IP, own.Port, nil
}

// WriteTo implements memberlist.Transport.
func (w *wire) WriteTo(b []byte, address string) (time.Time, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return time.Time{}, err
	}
	_, err = w.datagrams.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

// DialTimeout implements memberlist.Transport.
func (w *wire) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

// StreamCh implements memberlist.Transport.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// Shutdown implements memberlist.Transport.
func (w *wire) Shutdown() error {
	close(w.closed)
	err := errors.Join(w.listener.Close(), w.datagrams.Close())
	w.reading.Wait()
	return err
}
