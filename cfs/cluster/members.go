package cluster

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"etcpve/cfs/consensus"
	"etcpve/cfs/consensus/voters"
	"etcpve/cfs/format/corosync"
	"etcpve/cfs/peer"
)

// How often the leader compares the group with the definition, and how much of
// the log a node may lack and still count as caught up.
const (
	reconcileEvery = time.Second
	nearlyAll      = 256 // entries
	askTimeout     = 500 * time.Millisecond
	freshEvery     = 200 * time.Millisecond
)

// reconcile lets the leader make the group what the definition asks for, one
// step at a time, until ctx ends.
func (c *Cluster) reconcile(ctx context.Context, peers *peer.Peers) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := c.order.Status(); s.Leader == s.ID && s.Quorate {
			c.publish(ctx)
			c.adjust(ctx, peers, s)
		}
	}
}

// mostVoters is how many nodes may vote.
func mostVoters(d corosync.Definition) int { return cmp.Or(d.MaxVoters, voters.DefaultMax) }

// adjust takes the next step, if there is one.
func (c *Cluster) adjust(ctx context.Context, peers *peer.Peers, s consensus.Status) {
	step, ok := voters.Plan(c.candidates(ctx, peers, s), mostVoters(c.Definition()))
	if !ok {
		return
	}
	role := map[voters.Act]consensus.Role{
		voters.AddLearner: consensus.Learner, voters.Promote: consensus.Voter,
		voters.Demote: consensus.Learner, voters.Remove: consensus.Gone,
	}[step.Act]
	c.log.Info("group changes", "step", step.String())
	ctx, cancel := context.WithTimeout(ctx, pieceTimeout)
	defer cancel()
	if err := c.order.SetMember(ctx, s, uint64(step.ID), role); err != nil {
		c.log.Warn("group not changed", "step", step.String(), "err", err)
	}
}

// candidates describes every node of the definition and of the group.
func (c *Cluster) candidates(ctx context.Context, peers *peer.Peers, s consensus.Status) []voters.Node {
	nodes := map[uint32]*voters.Node{}
	at := func(id uint64) *voters.Node {
		if nodes[uint32(id)] == nil {
			nodes[uint32(id)] = &voters.Node{ID: uint32(id)}
		}
		return nodes[uint32(id)]
	}
	for _, id := range s.Voters {
		at(id).Voter = true
	}
	for _, id := range s.Learners {
		at(id).Learner = true
	}
	for _, d := range c.Definition().Nodes {
		n := at(uint64(d.ID))
		n.Defined, n.Votes = true, d.Votes
		n.Alive, n.For = c.seen.Since(d.Name)
		if uint64(d.ID) == s.ID {
			n.Alive, n.CaughtUp = true, true
		} else if n.Learner && n.Alive {
			n.CaughtUp = c.caughtUp(ctx, peers, d.Name, s.Commit)
		}
	}
	list := make([]voters.Node, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, *n)
	}
	return list
}

// caughtUp asks a node how far it is.
func (c *Cluster) caughtUp(ctx context.Context, peers *peer.Peers, node string, commit uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := peers.Call(ctx, node, kindWhere, nil)
	return err == nil && len(answer) == 8 && binary.BigEndian.Uint64(answer)+nearlyAll >= commit
}

// begin lets a node whose log is empty back into the group. It may have been a
// voter and have confirmed what it no longer has, so it says nothing to the
// group until the leader has taken it out and so forgotten how far it was; then
// it comes in like a new node.
func (c *Cluster) begin(ctx context.Context, peers *peer.Peers) {
	for c.fresh.Load() {
		for _, n := range c.Definition().Nodes {
			if n.Name == c.config.Node {
				continue
			}
			if err := call(ctx, peers, n.Name, kindFresh, nil); err == nil {
				c.fresh.Store(false)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(freshEvery):
		}
	}
}

// renew takes a node out of the group that has lost its log. Only the leader can.
func (c *Cluster) renew(ctx context.Context, node string) error {
	s := c.order.Status()
	n, defined := c.Definition().Node(node)
	switch id := uint64(n.ID); {
	case s.Leader != s.ID || !s.Quorate:
		return fmt.Errorf("node %s is not the leader", c.config.Node)
	case !defined:
		return fmt.Errorf("node %s is not in the cluster", node)
	case slices.Contains(s.Voters, id), slices.Contains(s.Learners, id):
		c.log.Warn("node has lost its log and begins anew", "node", node)
		return c.order.SetMember(ctx, s, id, consensus.Gone)
	}
	return nil
}
