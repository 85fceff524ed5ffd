// Package peer carries messages between the nodes of a cluster over mutually
// authenticated TLS.
//
// It owns one listener and, for each peer, two streams that it dials itself: one
// for messages, one for requests and their answers, so that a long transfer
// never delays a heartbeat. A peer is who its certificate, signed by the
// cluster's own authority, says it is, and only while the cluster knows that
// name. Peers never waits for a slow or dead peer: what does not fit into a
// peer's bounded queue is dropped, as a network may do anyway. It does not know
// what the messages mean.
package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Times after which a silent stream is given up.
const (
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 3 * time.Second
	idleTimeout      = 10 * time.Second // three missed signs of life and a bit
	aliveEvery       = 3 * time.Second
	redialFirst      = 50 * time.Millisecond
	redialMost       = 2 * time.Second
)

// Bounds of what one node keeps for another.
const (
	queueLength = 512 // messages waiting for one peer
	maxRequests = 32  // requests of one peer being answered at a time
)

// ErrUnreachable is the cause of a Call that got no answer.
var ErrUnreachable = errors.New("peer unreachable")

// Identity is what a node shows to its peers and what it trusts.
type Identity struct {
	Certificate tls.Certificate
	Authority   *x509.CertPool
	// Group tells a cluster from another one with the same authority and the same
	// names, such as the one that a survivor has left behind.
	Group string
}

// protocol is what two peers must both name in the handshake.
func (i Identity) protocol() string { return "etcpve-peer/1 " + i.Group }

// errGroup refuses a peer of another group, or one that names none.
var errGroup = errors.New("peer of another group")

// A Directory says who belongs to the cluster.
type Directory interface {
	// Addresses returns where a node listens, as host:port, the preferred address
	// first, and whether it is a member at all. It is asked at every connection, in
	// both directions.
	Addresses(node string) (addresses []string, member bool)
	// Identity returns the node's own certificate and the cluster's authority.
	// It is asked at every handshake, so a renewed certificate is used at once.
	Identity() (Identity, error)
}

// A Handler receives what other members send. Its methods are called from
// several goroutines, in order for messages of one peer.
type Handler interface {
	// Message takes one message. It must not block.
	Message(from string, kind uint8, body []byte)
	// Answer replies to a request. An error reaches the caller as text.
	Answer(ctx context.Context, from string, kind uint8, body []byte) ([]byte, error)
	// Summoned answers a member that has left this node's group for another one.
	Summoned(ctx context.Context, from string, kind uint8, body []byte) ([]byte, error)
	// Lost says that a stream to a member broke: the messages that were sent last may
	// not have arrived. It must not block.
	Lost(to string)
}

// Peers is a node's side of all streams.
type Peers struct {
	node      string
	directory Directory
	handler   Handler
	doorman   Doorman
	log       *slog.Logger
	lobby     *lobby
	began     chan struct{} // closed by Run

	mu      sync.Mutex // guards links, ctx, ended
	links   map[string]*link
	ctx     context.Context // of Run; nil before and after
	ended   chan<- error    // has room for the reason why Run ends
	running sync.WaitGroup
}

// New returns the streams of the named node. Nothing happens before Run. A nil
// doorman turns every stranger away.
func New(node string, directory Directory, handler Handler, doorman Doorman, log *slog.Logger) *Peers {
	return &Peers{node: node, directory: directory, handler: handler, doorman: doorman, log: log, lobby: newLobby(), began: make(chan struct{}), links: map[string]*link{}}
}

// Run, which is called once, accepts connections on the listeners, and on those that
// Listen adds, and sends queued messages until ctx ends or one of them fails. It closes
// them and returns when every goroutine it started has ended.
func (p *Peers) Run(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	p.mu.Lock()
	p.ctx, p.ended = ctx, ended
	close(p.began)
	p.mu.Unlock()
	var err error
	for _, l := range listeners {
		if _, e := p.Listen(ctx, l); ctx.Err() == nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		cancel()
	}
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	cancel()
	p.mu.Lock()
	p.ctx, p.links = nil, map[string]*link{}
	p.mu.Unlock()
	p.running.Wait()
	return err
}

// Listen accepts connections on one more listener while Run is under way, for which it
// waits. stop closes it and ends the streams that came that way.
func (p *Peers) Listen(ctx context.Context, l net.Listener) (stop func(), err error) {
	select {
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), l.Close())
	case <-p.began:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil {
		return nil, errors.Join(errors.New("peer streams: not running"), l.Close())
	}
	ctx, cancel := context.WithCancel(p.ctx)
	ended := p.ended
	context.AfterFunc(ctx, func() { l.Close() })
	p.running.Go(func() {
		defer cancel()
		if err := p.accept(ctx, l); err != nil {
			select {
			case ended <- err:
			default: // one is enough
			}
		}
	})
	return cancel, nil
}

// Moved says that a peer has got other addresses. Streams by an address that it still
// has are opened again, as the preferred one may be another, and another one to go to
// is what makes a stream impatient. The others are ended by the peer, when it has heard
// of it as well: it may hear of it by one of them.
func (p *Peers) Moved(node string) {
	p.mu.Lock()
	l := p.links[node]
	p.mu.Unlock()
	if l == nil {
		return
	}
	if addresses, _ := p.directory.Addresses(node); slices.Contains(addresses, l.way.address()) {
		l.way.leave("", "")
	}
}

// Send queues one message for a peer. It never blocks; it reports whether the
// message was queued, which says nothing of its arrival.
func (p *Peers) Send(to string, kind uint8, body []byte) bool {
	l := p.link(to)
	if l == nil {
		return false
	}
	select {
	case l.messages <- frame{role: message, kind: kind, body: body}:
		return true
	default:
		return false
	}
}

// Call sends a request and waits for its answer. The error wraps ErrUnreachable
// if the peer could not be asked or went away; the request may have been
// carried out all the same.
func (p *Peers) Call(ctx context.Context, to string, kind uint8, body []byte) ([]byte, error) {
	l := p.link(to)
	if l == nil {
		return nil, fmt.Errorf("peer %s: call: %w", to, ErrUnreachable)
	}
	answer, err := l.call(ctx, kind, body)
	if err != nil {
		return nil, fmt.Errorf("peer %s: call: %w", to, err)
	}
	return answer, nil
}

// Forget ends the streams to a peer that left the cluster.
func (p *Peers) Forget(node string) {
	p.mu.Lock()
	l := p.links[node]
	delete(p.links, node)
	p.mu.Unlock()
	if l != nil {
		l.cancel()
	}
}

// link returns the streams to a member, starting them at first use; nil if the
// name is no member's or Run is not under way.
func (p *Peers) link(to string) *link {
	if _, member := p.directory.Addresses(to); !member || to == p.node {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil {
		return nil
	}
	if l := p.links[to]; l != nil {
		return l
	}
	ctx, cancel := context.WithCancel(p.ctx)
	l := newLink(p, to, cancel)
	p.links[to] = l
	p.running.Go(func() { l.send(ctx) })
	p.running.Go(func() { l.ask(ctx) })
	return l
}

// accept serves connections until ctx ends.
func (p *Peers) accept(ctx context.Context, l net.Listener) error {
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("peer streams: accept: %w", err)
		}
		p.lobby.enter(raw)
		p.running.Go(func() {
			conn, from, err := p.welcome(ctx, raw)
			known := err == nil && from != ""
			if err == nil && !known {
				err = p.greet(ctx, conn) // still in the lobby
				conn.Close()
			}
			p.lobby.leave(raw)
			if err != nil {
				p.log.Debug("connection refused", "address", raw.RemoteAddr().String(), "err", err)
			}
			switch {
			case known && strings.HasPrefix(conn.ConnectionState().NegotiatedProtocol, summons("")):
				err = p.obey(ctx, conn, from)
				conn.Close()
				p.log.Debug("summons ended", "node", from, "err", err)
			case known:
				p.came(from, raw.RemoteAddr())
				p.serve(ctx, conn, from)
			}
		})
	}
}

// welcome finishes the handshake on an accepted connection and returns the
// member behind it; no name for a stranger who asks for the doorman.
func (p *Peers) welcome(ctx context.Context, raw net.Conn) (*tls.Conn, string, error) {
	identity, err := p.directory.Identity()
	if err != nil {
		raw.Close()
		return nil, "", err
	}
	from, come := "", summons(identity.Group)
	conn := tls.Server(raw, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // a resumed session is not verified again
		Certificates:           []tls.Certificate{identity.Certificate},
		NextProtos:             []string{identity.protocol(), come},
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) (err error) {
			if from, err = nodeOf(identity.Authority, chain); err != nil {
				return err
			}
			if _, member := p.directory.Addresses(from); !member {
				return fmt.Errorf("node %s: not a member", from)
			}
			return nil
		},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if p.doorman == nil || !slices.Contains(hello.SupportedProtos, contactProtocol) {
				return nil, nil // as above
			}
			return contactConfig(identity), nil
		},
	})
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	err = conn.HandshakeContext(ctx)
	if agreed := conn.ConnectionState().NegotiatedProtocol; err == nil && from != "" && agreed != identity.protocol() && agreed != come {
		err = errGroup
	}
	if err != nil {
		raw.Close()
		return nil, "", err
	}
	return conn, from, nil
}

// dial opens a stream to a member by the first of the addresses that answers.
func (p *Peers) dial(ctx context.Context, to string, addresses []string) (*tls.Conn, string, error) {
	identity, err := p.directory.Identity()
	if err == nil && len(addresses) == 0 {
		err = errors.New("no member")
	}
	if err != nil {
		return nil, "", fmt.Errorf("peer %s: dial: %w", to, err)
	}
	known, _ := p.directory.Addresses(to)
	several := len(known) > 1
	conn, address, err := race(ctx, addresses, several, func(ctx context.Context, address string) (*tls.Conn, error) {
		return open(ctx, address, identity.config(to), several)
	})
	if err != nil {
		return nil, "", fmt.Errorf("peer %s: dial: %w", to, err)
	}
	return conn, address, nil
}

// config is for a stream that this node opens to a member.
func (i Identity) config(to string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{i.Certificate},
		NextProtos:         []string{i.protocol()},
		InsecureSkipVerify: true, // replaced: who a node is follows from its common name, not from an address
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			node, err := nodeOf(i.Authority, chain)
			if err == nil && node != to {
				err = fmt.Errorf("certificate of node %q", node)
			}
			return err
		},
	}
}

// open opens a stream to an address. If there are others, it is given up soon when it
// does not get through.
func open(ctx context.Context, address string, config *tls.Config, several bool) (*tls.Conn, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{KeepAlive: aliveEvery}, Config: config}
	if several {
		dialer.NetDialer.Control = impatient
	}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := raw.(*tls.Conn)
	if !slices.Contains(config.NextProtos, conn.ConnectionState().NegotiatedProtocol) {
		conn.Close()
		return nil, errGroup
	}
	return conn, nil
}

// nodeOf returns the node that a certificate of the cluster's authority was
// made for: its common name up to the first dot, as PVE names nodes.
func nodeOf(authority *x509.CertPool, chain [][]byte) (string, error) {
	if len(chain) == 0 {
		return "", errors.New("no certificate")
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return "", err
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: authority, KeyUsages: usage}); err != nil {
		return "", err
	}
	node, _, _ := strings.Cut(cert.Subject.CommonName, ".")
	return node, nil
}
