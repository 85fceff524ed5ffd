package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/peer"
)

// Survive makes a node that has no quorum ready to go on as the first of a group of
// its own, with all that is in its log and with as many votes expected as are given.
// The group has another secret, so it speaks to no member of the old one as to one of
// its own, and listens to none. It takes effect when the node starts again as a group
// of one. The other nodes stay in the definition: who has nothing that this one lacks
// is taken over when it answers.
func (c *Cluster) Survive(ctx context.Context, expected uint32) error {
	s := c.order.Status()
	if s.Quorate {
		return errors.New("this node has quorum: there is nothing to recover")
	}
	d, text, err := c.config.Home.Definition()
	if err != nil {
		return err
	}
	if _, member := d.Node(c.config.Node); !member {
		return ErrAlone
	}
	root, err := corosync.Parse(string(text))
	if err != nil {
		return err
	}
	alive := c.Alive()
	present := uint32(0)
	for _, n := range d.Nodes {
		if slices.Contains(alive, n.Name) {
			present += n.Votes
		}
	}
	if need := expected/2 + 1; need > present {
		return fmt.Errorf("with %d votes expected, a majority is %d: the nodes that answer have %d", expected, need, present)
	}
	position, err := c.order.Position(ctx)
	if err != nil {
		return err
	}
	if err := c.mostAdvanced(ctx, alive, position); err != nil {
		return err
	}
	secret, err := c.config.Home.Secret()
	if err != nil {
		return err
	}
	c.log.Warn("going on as the first of a new group", "node", c.config.Node, "answering", alive)
	root.Raise()
	return c.config.Home.Part([]byte(corosync.Format(root)), home.Parting{Group: home.GroupOf(secret), Commit: position.Commit, Last: position.Last})
}

// mostAdvanced refuses when a member that answers knows of changes that this node
// lacks: it is the one that should go on.
func (c *Cluster) mostAdvanced(ctx context.Context, alive []string, own consensus.Position) error {
	c.mu.Lock()
	peers := c.peers
	c.mu.Unlock()
	for _, node := range alive {
		if node == c.config.Node || peers == nil {
			continue
		}
		m, err := askDeed(func(kind uint8, body []byte) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			return peers.Call(ctx, node, kind, body)
		})
		if err != nil {
			return fmt.Errorf("node %s answers, but does not say what it has: %w", node, err)
		}
		if m.Term > own.Deed.Term || m.Term == own.Deed.Term && m.Index > own.Deed.Index {
			return fmt.Errorf("node %s answers and has changes that this node lacks: run this there", node)
		}
	}
	return nil
}

// askDeed asks a member for the last change in its log.
func askDeed(ask peer.Ask) (m consensus.Mark, err error) {
	answer, err := ask(kindDeed, nil)
	if err == nil && len(answer) != 16 {
		err = fmt.Errorf("answer of %d bytes", len(answer))
	}
	if err != nil {
		return m, err
	}
	return consensus.Mark{Index: binary.BigEndian.Uint64(answer), Term: binary.BigEndian.Uint64(answer[8:])}, nil
}

// deed answers askDeed.
func (c *Cluster) deed(ctx context.Context) ([]byte, error) {
	p, err := c.order.Position(ctx)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.Deed.Index), p.Deed.Term), err
}

// publish puts the definition that this node keeps into the tree if that has an
// older one, as it has after the survival of a node.
func (c *Cluster) publish(ctx context.Context) {
	e, ok := c.config.Tree.Lookup(corosync.File)
	if !ok {
		return
	}
	if d, err := define(e.Data); err != nil || d.Version >= c.Definition().Version {
		return
	}
	_, text, err := c.config.Home.Definition()
	if err == nil {
		err = c.put(ctx, &command.Command{Path: corosync.File, Data: text, Expect: e.Version})
	}
	if err != nil {
		c.log.Warn("definition not put into the tree", "path", corosync.File, "err", err)
	}
}
