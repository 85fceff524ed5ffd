package membership

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// air is a network in one process, on which everything takes a millisecond.
type air struct {
	mu       sync.Mutex // guards stations
	stations map[string]*station
}

const flight = time.Millisecond

// station is the network as one node sees it. What it has no room for is lost.
type station struct {
	air     *air
	address string
	packets chan *memberlist.Packet
	streams chan net.Conn
}

// place is where a station is.
type place string

func (p place) Network() string { return "air" }
func (p place) String() string  { return string(p) }

func (a *air) station() *station {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &station{a, fmt.Sprintf("127.0.0.1:%d", len(a.stations)+1), make(chan *memberlist.Packet, 1024), make(chan net.Conn, 64)}
	a.stations[s.address] = s
	return s
}

func (a *air) at(address string) *station {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stations[address]
}

func (s *station) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, text, err := net.SplitHostPort(s.address)
	if err != nil {
		return nil, 0, err
	}
	port, err := strconv.Atoi(text)
	return net.ParseIP(host), port, err
}

func (s *station) WriteTo(b []byte, address string) (time.Time, error) {
	to := s.air.at(address)
	if to == nil {
		return time.Time{}, errors.New("nobody is there")
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: place(s.address)}
	time.AfterFunc(flight, func() {
		p.Timestamp = time.Now()
		select {
		case to.packets <- p:
		default:
		}
	})
	return time.Now(), nil
}

func (s *station) DialTimeout(address string, _ time.Duration) (net.Conn, error) {
	to := s.air.at(address)
	if to == nil {
		return nil, errors.New("nobody is there")
	}
	near, far := net.Pipe()
	select {
	case to.streams <- far:
		return near, nil
	default:
		return nil, errors.New("too many streams")
	}
}

func (s *station) PacketCh() <-chan *memberlist.Packet { return s.packets }
func (s *station) StreamCh() <-chan net.Conn           { return s.streams }
func (s *station) Shutdown() error                     { return nil }
