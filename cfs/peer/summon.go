package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Bounds of everything that a member of another group may ask.
const (
	summonsTimeout = 10 * time.Second
	maxSummons     = 1 << 20 // bytes: the largest definition and what goes with it
)

// summons is how a node says in the handshake that it has left the group of the
// node it speaks to, and has something to say to it.
func summons(group string) string { return "etcpve-come/1 " + group }

// Ask sends one request and returns its answer.
type Ask func(kind uint8, body []byte) ([]byte, error)

// Summon speaks to a node of one of the groups that this node has left, as long as
// say does. The other side answers by its handler's Summoned.
func (p *Peers) Summon(ctx context.Context, to string, groups []string, say func(group string, ask Ask) error) error {
	ctx, cancel := context.WithTimeout(ctx, summonsTimeout)
	defer cancel()
	identity, err := p.directory.Identity()
	if err != nil {
		return fmt.Errorf("peer %s: summon: %w", to, err)
	}
	addresses, _ := p.directory.Addresses(to)
	protocols := make(map[string]string, len(groups))
	config := identity.config(to)
	config.NextProtos = nil
	for _, g := range groups {
		protocols[summons(g)] = g
		config.NextProtos = append(config.NextProtos, summons(g))
	}
	conn, _, err := race(ctx, addresses, len(addresses) > 1, func(ctx context.Context, address string) (*tls.Conn, error) {
		return open(ctx, address, config, false)
	})
	if err != nil {
		return fmt.Errorf("peer %s: summon: %w", to, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	w, r := bufio.NewWriter(conn), bufio.NewReader(conn)
	return say(protocols[conn.ConnectionState().NegotiatedProtocol], func(kind uint8, body []byte) ([]byte, error) {
		if err := errors.Join(put(conn, w, frame{role: request, kind: kind, body: body}), w.Flush()); err != nil {
			return nil, err
		}
		f, err := readFrame(r)
		if err == nil && f.role == failure {
			err = errors.New(string(f.body))
		}
		return f.body, err
	})
}

// obey answers a member that has left this node's group, until it has no more to say.
func (p *Peers) obey(ctx context.Context, conn *tls.Conn, from string) error {
	ctx, cancel := context.WithTimeout(ctx, summonsTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	w, r := bufio.NewWriter(conn), bufio.NewReader(conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.role != request || len(f.body) > maxSummons {
			return errFrame
		}
		a := frame{role: response, kind: f.kind, id: f.id}
		if a.body, err = p.handler.Summoned(ctx, from, f.kind, f.body); err != nil {
			a.role, a.body = failure, []byte(err.Error())
		}
		if err := errors.Join(put(conn, w, a), w.Flush()); err != nil {
			return err
		}
	}
}
