package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"etcpve/cfs/cluster/home"
	"etcpve/cfs/consensus"
	"etcpve/cfs/peer"
)

// How often a survivor looks for nodes of the group that it has left, and how long one
// may take to answer.
const (
	recallEvery  = time.Second
	recallWithin = 3 * time.Second
)

// A takeover makes a node one of another group.
type takeover struct {
	Secret     []byte         `json:"secret"`
	Definition []byte         `json:"definition"`
	Deed       consensus.Mark `json:"deed"` // the last change of the node that this one has too
}

// errAhead is the reason for which a node is not taken over.
var errAhead = errors.New("it has changes that this cluster lacks")

// recall takes over the nodes of the groups that this node has left, as soon as one
// answers, until ctx ends. A node that has changes which this one lacks stays where
// it is: only an operator can say which of the two shall be forgotten.
func (c *Cluster) recall(ctx context.Context, peers *peer.Peers) {
	partings, err := c.partings()
	if err != nil {
		c.log.Warn("nodes of the group before are not looked for", "err", err)
	}
	if len(partings) == 0 {
		return
	}
	tick := time.NewTicker(recallEvery)
	defer tick.Stop()
	said := map[string]string{} // by node
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.order.Status().Quorate {
			continue
		}
		var asking sync.WaitGroup
		var mu sync.Mutex // guards said
		alive := c.Alive()
		for _, n := range c.Definition().Nodes {
			if slices.Contains(alive, n.Name) {
				continue
			}
			asking.Go(func() {
				err := c.takeOver(ctx, peers, n.Name, partings)
				mu.Lock()
				defer mu.Unlock()
				c.tellRecalled(n.Name, err, said)
			})
		}
		asking.Wait()
	}
}

// partings returns the groups that this node has left. The one that it is in may be
// among them after a crash in the middle of leaving.
func (c *Cluster) partings() ([]home.Parting, error) {
	list, err := c.config.Home.Partings()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	secret, err := c.config.Home.Secret()
	own := home.GroupOf(secret)
	return slices.DeleteFunc(list, func(p home.Parting) bool { return p.Group == own }), err
}

func (c *Cluster) tellRecalled(node string, err error, said map[string]string) {
	switch {
	case err == nil:
		c.log.Info("node of the group before is taken over", "node", node)
	case errors.Is(err, errAhead) && said[node] != err.Error():
		said[node] = err.Error()
		c.log.Error("node of the group before stays there", "node", node, "err", err,
			"remedy", "keep what is needed of its tree, then run 'pvecm add --force' on it")
	}
}

// takeOver has one node follow this one if it has nothing that is missing here.
func (c *Cluster) takeOver(ctx context.Context, peers *peer.Peers, node string, partings []home.Parting) error {
	ctx, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	var groups []string
	for _, p := range partings {
		groups = append(groups, p.Group)
	}
	return peers.Summon(ctx, node, groups, func(group string, ask peer.Ask) error {
		m, err := askDeed(ask)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(partings, func(p home.Parting) bool { return p.Group == group })
		if i < 0 {
			return errors.New("of no group that this node has left")
		}
		if has, err := c.has(ctx, partings[i], m); err != nil || !has {
			return errors.Join(err, fmt.Errorf("change %d of term %d: %w", m.Index, m.Term, errAhead))
		}
		t := takeover{Deed: m}
		if t.Secret, err = c.config.Home.Secret(); err != nil {
			return err
		}
		if _, t.Definition, err = c.config.Home.Definition(); err != nil {
			return err
		}
		body, err := json.Marshal(t)
		if err != nil {
			return err
		}
		_, err = ask(kindFollow, body)
		return err
	})
}

// has reports whether a change of a group that this node has left is in its log. Up to
// what the group had agreed on there is nothing else; up to where the log went, the
// term tells; what follows is of the new group.
func (c *Cluster) has(ctx context.Context, p home.Parting, m consensus.Mark) (bool, error) {
	if m.Index <= p.Commit {
		return true, nil
	}
	if m.Index > p.Last {
		return false, nil
	}
	return c.order.Holds(ctx, m)
}

// Summoned answers a member that has left this node's group. It tells the last change
// in its log, and follows if that is still the last one.
func (c *Cluster) Summoned(ctx context.Context, from string, kind uint8, body []byte) ([]byte, error) {
	switch kind {
	case kindDeed:
		return c.deed(ctx)
	case kindFollow:
		var t takeover
		if err := json.Unmarshal(body, &t); err != nil {
			return nil, fmt.Errorf("summons: %w", err)
		}
		d, err := define(t.Definition)
		if err != nil {
			return nil, fmt.Errorf("summons: %w", err)
		}
		if _, member := d.Node(c.config.Node); !member || d.Cluster != c.Definition().Cluster {
			return nil, errors.New("summons: not this node's cluster")
		}
		p, err := c.order.Position(ctx)
		if err != nil {
			return nil, err
		}
		if p.Deed != t.Deed {
			return nil, errors.New("summons: another change was made meanwhile")
		}
		if err := c.config.Home.Follow(t.Secret, t.Definition); err != nil {
			return nil, err
		}
		c.log.Warn("this node follows another, which went on without quorum", "node", from)
		c.config.Restart.Empty()
		return nil, nil
	}
	return nil, fmt.Errorf("summons of unknown kind %d", kind)
}
