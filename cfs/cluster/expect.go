package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"etcpve/cfs/consensus"
)

// maxSteps is more than there can be voters.
const maxSteps = 16

// Expect lowers how many votes are expected while there is quorum, so that the nodes
// which answer survive the loss of more of them. Fewer than they have are never
// expected, as with votequorum. Voters that do not answer give up their votes, by the
// agreement of the majority that there is, so no two halves can have one; who comes back
// votes again. The leader does it.
func (c *Cluster) Expect(ctx context.Context, expected uint32) error {
	s := c.order.Status()
	if !s.Quorate {
		return consensus.ErrNoQuorum
	}
	if s.Leader == s.ID {
		return c.expect(ctx, expected)
	}
	peers, leader := c.route(s.Leader)
	if peers == nil {
		return errors.New("no leader just now: try again")
	}
	_, err := peers.Call(ctx, leader, kindExpect, binary.BigEndian.AppendUint32(nil, expected))
	return err
}

// expect takes the votes of absent voters, one after the other, until no more than
// are asked for are expected.
func (c *Cluster) expect(ctx context.Context, expected uint32) error {
	for range maxSteps {
		r, s, alive := c.Report(), c.order.Status(), c.Alive()
		switch {
		case s.Leader != s.ID || !s.Quorate:
			return fmt.Errorf("node %s is not the leader any more", c.config.Node)
		case expected > r.Highest:
			return fmt.Errorf("%d votes cannot be expected: all nodes of corosync.conf have %d", expected, r.Highest)
		case expected > r.Expected:
			return fmt.Errorf("%d votes are expected: more when the nodes that have them answer", r.Expected)
		case r.Expected <= max(expected, r.Present):
			return nil
		}
		id := uint64(0)
		for _, n := range r.Nodes {
			if n.Role == "voter" && !slices.Contains(alive, n.Name) {
				id = uint64(n.ID)
			}
		}
		if id == 0 {
			return nil // nodes that do not vote are no hindrance
		}
		c.log.Warn("a node that does not answer gives up its vote", "id", id, "expected", expected)
		if err := c.order.SetMember(ctx, s, id, consensus.Learner); err != nil {
			return err
		}
	}
	return nil
}

// expectFor answers another member's Expect.
func (c *Cluster) expectFor(ctx context.Context, body []byte) error {
	if len(body) != 4 {
		return fmt.Errorf("question of %d bytes", len(body))
	}
	return c.expect(ctx, binary.BigEndian.Uint32(body))
}
