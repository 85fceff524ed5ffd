// Package tunnel carries what moves between two nodes of a cluster: disks, the
// memory of a machine, requests and answers.
//
// Both ends show the certificate of their node, and each lets in only the one
// node it expects, under the authority of the cluster and with the certificate
// that lies in the tree: a node that was removed has none. A listener lives no
// longer than the work it is for.
//
// It owns the ports, the handshake and the form of what is sent: messages of
// limited size, streams whose end cannot be mistaken, and bytes as they come. It
// never knows what they mean, and never starts a program.
package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The ports of migrations, which a firewall between nodes lets pass.
const (
	firstPort = 60000
	lastPort  = 60050
)

// handshakeWait is how long the other end may take to say who it is.
const handshakeWait = 20 * time.Second

// A Node is one end: a node of the cluster, with the tree that names the others.
type Node struct{ Tree, Name string }

// certificate is where the tree has the certificate of a node.
func (n Node) certificate(name string) string {
	return filepath.Join(n.Tree, "nodes", name, "pve-ssl.pem")
}

// config is the handshake of a node that expects a certain other one.
func (n Node) config(peer string) (*tls.Config, error) {
	authority, err := os.ReadFile(filepath.Join(n.Tree, "pve-root-ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("pve-root-ca.pem: no certificate in PEM form")
	}
	own, err := tls.LoadX509KeyPair(n.certificate(n.Name), filepath.Join(n.Tree, "nodes", n.Name, "pve-ssl.key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		RootCAs: pool, ServerName: peer,
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return n.expect(peer, s) },
	}, nil
}

// expect refuses everybody but one node. The certificate is compared with the one
// in the tree, as an authority alone does not forget whom it has signed.
func (n Node) expect(peer string, s tls.ConnectionState) error {
	shown := s.PeerCertificates[0]
	if name, _, _ := strings.Cut(shown.Subject.CommonName, "."); name != peer {
		return fmt.Errorf("certificate of node '%s', not of '%s'", name, peer)
	}
	text, err := os.ReadFile(n.certificate(peer))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil || !bytes.Equal(block.Bytes, shown.Raw) {
		return fmt.Errorf("not the certificate that the cluster has of node '%s'", peer)
	}
	return nil
}

// A Listener takes the connections of one node.
type Listener struct {
	Address string // where it listens
	tcp     net.Listener
	tls     *tls.Config
}

// Listen opens a port for one node, on this node's address within a network
// (CIDR), or without one on that of the cluster.
func (n Node) Listen(peer, network string) (*Listener, error) {
	config, err := n.config(peer)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	ip, err := n.address(network)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	for port := firstPort; port <= lastPort; port++ {
		var tcp net.Listener
		tcp, err = net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err == nil {
			return &Listener{Address: tcp.Addr().String(), tcp: tcp, tls: config}, nil
		}
	}
	return nil, fmt.Errorf("tunnel: no port of %d to %d is free: %w", firstPort, lastPort, err)
}

// Close stops listening. Connections go on.
func (l *Listener) Close() error { return l.tcp.Close() }

// Serve gives each connection of the node to handle, in a goroutine of its own,
// until ctx ends; then it closes them and returns when all have been handled.
func (l *Listener) Serve(ctx context.Context, handle func(context.Context, *Conn), refused func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		l.tcp.Close()
	}()
	pending := make(chan struct{}, maxConns)
	for {
		raw, err := l.tcp.Accept()
		if err != nil {
			break
		}
		pending <- struct{}{}
		go func() {
			defer func() { <-pending }()
			c := &Conn{Conn: tls.Server(raw, l.tls), raw: raw}
			defer c.attach(ctx)()
			if err := c.handshake(ctx); err != nil {
				refused(err)
				return
			}
			handle(ctx, c)
		}()
	}
	cancel()
	<-done
	for range maxConns { // all places are free: all have been handled
		pending <- struct{}{}
	}
}

// maxConns is how many connections of one peer are served at the same time.
const maxConns = 64

// Dial connects to the listener of a node.
func (n Node) Dial(ctx context.Context, peer, address string) (*Conn, error) {
	config, err := n.config(peer)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	dialer := net.Dialer{Timeout: handshakeWait}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	c := &Conn{Conn: tls.Client(raw, config), raw: raw}
	if err := c.handshake(ctx); err != nil {
		return nil, fmt.Errorf("tunnel to node '%s': %w", peer, errors.Join(err, raw.Close()))
	}
	return c, nil
}

// A Conn is a connection to another node.
type Conn struct {
	*tls.Conn
	raw net.Conn
}

// attach closes the connection when ctx ends; the function returned closes it too.
func (c *Conn) attach(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	return func() {
		stop()
		c.Close()
	}
}

// Bind closes the connection when ctx ends.
func (c *Conn) Bind(ctx context.Context) { context.AfterFunc(ctx, func() { c.raw.Close() }) }

func (c *Conn) handshake(ctx context.Context) error {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		// A node that is gone does not say so.
		err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4})
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	return c.HandshakeContext(ctx)
}

// address returns where this node listens for others.
func (n Node) address(network string) (string, error) {
	if network == "" {
		members, err := ReadMembers(n.Tree)
		if err != nil {
			return "", err
		}
		return members.address(n.Name)
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return "", fmt.Errorf("network '%s': %w", network, err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && prefix.Masked().Contains(p.Addr()) {
			return p.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("node '%s' has no address in network '%s'", n.Name, network)
}
