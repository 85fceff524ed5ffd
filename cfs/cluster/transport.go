package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"etcpve/cfs/peer"
)

// Kinds of what members send each other.
const (
	kindOrder   uint8 = iota + 1 // a message of consensus
	kindPiece                    // a piece of one that is too large for a frame
	kindWhere                    // asks for the index applied last
	kindStatus                   // asks for status values
	kindFresh                    // says that the sender has no log, and asks to begin anew
	kindEntries                  // asks for committed entries after an index
	kindDeed                     // asks for the last change in the log
	kindFollow                   // has a node of another group follow
	kindTold                     // committed entries, told to a learner
	kindExpect                   // has the leader lower the votes that are expected
)

// Bounds of messages of consensus. A whole tree is one message.
const (
	maxOrder = 3 << 20  // sent in one frame
	maxTree  = 96 << 20 // sent in pieces: 30 MiB of content, names, and room to grow
	pieceLen = 1 << 20
)

// pieceTimeout bounds the transfer of one piece.
const pieceTimeout = 10 * time.Second

// Send carries a message of consensus to the member with the given id. It
// implements consensus.Transport: it never blocks, and drops what it must.
func (c *Cluster) Send(to uint64, message []byte) {
	peers, node := c.route(to)
	if peers == nil {
		return
	}
	if len(message) <= maxOrder {
		peers.Send(node, kindOrder, message)
		return
	}
	select {
	case c.large <- transfer{to, node, message}:
	default:
		c.order.SnapshotSent(to, false)
	}
}

// A transfer is a message on its way in pieces.
type transfer struct {
	to      uint64
	node    string
	message []byte
}

// carry sends large messages one after the other until ctx ends.
func (c *Cluster) carry(ctx context.Context, peers *peer.Peers) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c.large:
			err := sendPieces(ctx, peers, t.node, t.message)
			if err != nil {
				c.log.Warn("tree not sent", "node", t.node, "err", err)
			}
			c.order.SnapshotSent(t.to, err == nil)
		}
	}
}

// A piece is total, offset, then bytes.
func sendPieces(ctx context.Context, peers *peer.Peers, node string, message []byte) error {
	for at := 0; at < len(message); at += pieceLen {
		body := binary.BigEndian.AppendUint32(nil, uint32(len(message)))
		body = binary.BigEndian.AppendUint32(body, uint32(at))
		body = append(body, message[at:min(at+pieceLen, len(message))]...)
		if err := call(ctx, peers, node, kindPiece, body); err != nil {
			return err
		}
	}
	return nil
}

func call(ctx context.Context, peers *peer.Peers, node string, kind uint8, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, pieceTimeout)
	defer cancel()
	_, err := peers.Call(ctx, node, kind, body)
	return err
}

// pieces puts large messages together again, one at a time for each sender.
type pieces struct {
	mu    sync.Mutex // guards parts
	parts map[string][]byte
}

var errPiece = errors.New("piece out of order")

// add takes the next piece from a sender and returns the message when it is whole.
func (p *pieces) add(from string, body []byte) ([]byte, error) {
	if len(body) < 8 {
		return nil, errPiece
	}
	total, at := int(binary.BigEndian.Uint32(body)), int(binary.BigEndian.Uint32(body[4:]))
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.parts[from]
	if at == 0 {
		have = nil
	}
	if total > maxTree || at != len(have) || at+len(body)-8 > total {
		delete(p.parts, from)
		return nil, fmt.Errorf("%d of %d bytes at %d: %w", len(body)-8, total, at, errPiece)
	}
	have = append(have, body[8:]...)
	if len(have) < total {
		p.parts[from] = have
		return nil, nil
	}
	delete(p.parts, from)
	return have, nil
}

// Message takes what another member sent.
func (c *Cluster) Message(from string, kind uint8, body []byte) {
	n, member := c.Definition().Node(from)
	if c.fresh.Load() || !member {
		return
	}
	switch kind {
	case kindTold:
		select {
		case c.relay.told <- body:
		default: // the leader notices what is missing
		}
		return
	case kindOrder:
	default:
		return
	}
	if err := c.order.StepFrom(c.ctx, uint64(n.ID), body); err != nil {
		c.log.Debug("message refused", "node", from, "err", err)
	}
}

// Lost says that messages to another member may have been lost.
func (c *Cluster) Lost(to string) {
	if n, member := c.Definition().Node(to); member {
		c.order.Unreachable(uint64(n.ID))
	}
}

// Answer replies to another member.
func (c *Cluster) Answer(ctx context.Context, from string, kind uint8, body []byte) ([]byte, error) {
	switch kind {
	case kindFresh:
		return nil, c.renew(ctx, from)
	case kindPiece:
		whole, err := c.pieces.add(from, body)
		if err != nil || whole == nil || c.fresh.Load() {
			return nil, err
		}
		n, _ := c.Definition().Node(from)
		return nil, c.order.StepFrom(ctx, uint64(n.ID), whole)
	case kindEntries:
		return c.entries(ctx, body)
	case kindWhere:
		return binary.BigEndian.AppendUint64(nil, c.order.Status().Applied), nil
	case kindDeed:
		return c.deed(ctx)
	case kindExpect:
		return nil, c.expectFor(ctx, body)
	case kindStatus:
		return c.spread.Answer(body)
	}
	return nil, fmt.Errorf("request of unknown kind %d", kind)
}
