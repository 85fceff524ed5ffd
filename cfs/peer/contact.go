package peer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// contactProtocol is how a stranger, who has no certificate yet, says in the
// TLS handshake that it wants to speak to the doorman.
const contactProtocol = "etcpve-join/1"

// Bounds of a first contact.
const (
	maxContact     = 64 << 10 // bytes a stranger may send
	contactTimeout = 30 * time.Second
)

// A Doorman answers the one request that a node without a certificate may make.
// It alone decides whether the stranger has proved anything. An error reaches
// the stranger as text.
type Doorman interface {
	Admit(ctx context.Context, address string, body []byte) ([]byte, error)
}

// Contact makes first contact with the member at address (host:port) whose
// certificate has the given fingerprint, AB:CD:… of its SHA-256, and returns
// the doorman's answer.
func Contact(ctx context.Context, address, fingerprint string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{
		MinVersion:            tls.VersionTLS13,
		NextProtos:            []string{contactProtocol},
		InsecureSkipVerify:    true, // replaced by the fingerprint: there is no authority to trust yet
		VerifyPeerCertificate: verifyFingerprint(fingerprint),
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("contact %s: %w", address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	w := bufio.NewWriter(conn)
	if err := errors.Join((frame{role: request, body: body}).write(w), w.Flush()); err != nil {
		return nil, fmt.Errorf("contact %s: %w", address, err)
	}
	f, err := readFrame(bufio.NewReader(conn))
	switch {
	case err != nil:
		return nil, fmt.Errorf("contact %s: %w", address, err)
	case f.role == failure:
		return nil, fmt.Errorf("contact %s: refused: %s", address, f.body)
	}
	return f.body, nil
}

// Fingerprint returns the fingerprint of the certificate that the member at
// address shows, for an operator to compare.
func Fingerprint(ctx context.Context, address string) (string, error) {
	seen := ""
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{contactProtocol},
		InsecureSkipVerify: true, // only looked at: nothing is sent
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			sum := sha256.Sum256(chain[0])
			seen = strings.Trim(strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"), ":")
			return nil
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("contact %s: %w", address, err)
	}
	return seen, conn.Close()
}

func verifyFingerprint(want string) func([][]byte, [][]*x509.Certificate) error {
	return func(chain [][]byte, _ [][]*x509.Certificate) error {
		if len(chain) == 0 {
			return errors.New("no certificate")
		}
		sum := sha256.Sum256(chain[0])
		if !strings.EqualFold(strings.ReplaceAll(want, ":", ""), hex.EncodeToString(sum[:])) {
			return errors.New("certificate has another fingerprint")
		}
		return nil
	}
}

// contactConfig is for a connection on which the other side shows nothing.
func contactConfig(identity Identity) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		Certificates:           []tls.Certificate{identity.Certificate},
		NextProtos:             []string{contactProtocol},
	}
}

// greet lets the doorman answer a stranger's one request.
func (p *Peers) greet(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	f, err := readFrame(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if f.role != request || len(f.body) > maxContact {
		return errFrame
	}
	select {
	case p.lobby.admitting <- struct{}{}:
		defer func() { <-p.lobby.admitting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	answer := frame{role: response}
	answer.body, err = p.doorman.Admit(ctx, conn.RemoteAddr().String(), f.body)
	if err != nil {
		p.log.Info("stranger refused", "address", conn.RemoteAddr().String(), "err", err)
		answer = frame{role: failure, body: []byte(err.Error())}
		select {
		case <-time.After(refuseAfter):
		case <-ctx.Done():
		}
	}
	w := bufio.NewWriter(conn)
	return errors.Join(put(conn, w, answer), w.Flush())
}
