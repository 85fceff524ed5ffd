package cluster

import (
	"context"
	"errors"

	"etcpve/cfs/command"
	"etcpve/cfs/format/corosync"
)

// Survive makes a node that has no quorum ready to go on as a cluster of its own
// with all that is in its log. The definition then names this node alone and the
// group has another secret, so it speaks to no member of the old group and listens
// to none, not even after one has joined anew: whoever comes back with what it had
// stays out. It takes effect when the node starts again as a group of one.
func (c *Cluster) Survive() error {
	if c.order.Status().Quorate {
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
	for _, n := range d.Nodes {
		if n.Name != c.config.Node {
			root.Remove(n.Name)
		}
	}
	c.log.Warn("going on as a cluster of one", "node", c.config.Node)
	return c.config.Home.Part([]byte(corosync.Format(root)))
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
