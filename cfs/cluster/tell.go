package cluster

import (
	"context"
	"slices"

	"etcpve/cfs/consensus"
	"etcpve/cfs/peer"
)

// maxTold is how many bytes of entries a voter tells at once. More than that a learner
// asks for when it is ready: many such messages could wait for one that is not.
const maxTold = 256 << 10

// tellLearners tells the learners that this voter has a share in what was committed,
// as soon as this node has applied it, until ctx ends.
func (c *Cluster) tellLearners(ctx context.Context, peers *peer.Peers) {
	for told := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-c.relay.tell:
		}
		s := c.order.Status()
		after := told
		told = s.Commit
		share := c.share(s)
		if after == 0 || told <= after || len(share) == 0 {
			continue
		}
		bundle, err := c.order.Committed(ctx, after)
		if err != nil || len(bundle) == 0 || len(bundle) > maxTold {
			c.log.Debug("learners not told", "index", told, "bytes", len(bundle), "err", err)
			continue
		}
		for _, node := range share {
			peers.Send(node, kindTold, bundle)
		}
	}
}

// share returns the learners that this node tells, of those that answer.
func (c *Cluster) share(s consensus.Status) (nodes []string) {
	if len(s.Learners) == 0 || s.Leader == s.ID {
		return nil
	}
	alive, names := c.Alive(), map[uint64]string{}
	for _, n := range c.Definition().Nodes {
		if slices.Contains(alive, n.Name) {
			names[uint64(n.ID)] = n.Name
		}
	}
	for _, id := range consensus.ShareOf(s.ID, s, func(id uint64) bool { return names[id] != "" }) {
		if names[id] != "" {
			nodes = append(nodes, names[id])
		}
	}
	return nodes
}

// learn takes over what a voter tells this node, until ctx ends. What is missing in
// between comes when the announcement has been heard, or from the leader.
func (c *Cluster) learn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case bundle := <-c.relay.told:
			if err := c.order.Feed(ctx, bundle); err != nil {
				c.log.Debug("entries that were told not taken", "err", err)
			}
		}
	}
}
