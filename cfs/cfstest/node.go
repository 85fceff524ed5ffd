// Package cfstest runs nodes of the file system inside a test: database, tree and
// consensus together, without a mount.
//
// It owns their start and stop. It decides nothing about what is tested.
package cfstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/database"
	"etcpve/cfs/tree"
)

// Node is a running node.
type Node struct {
	Tree      *tree.Tree
	Database  *database.Database
	Consensus *consensus.Node

	ctx     context.Context // of everything that runs
	stop    context.CancelFunc
	retire  context.CancelFunc // ends the consensus, which may hand over meanwhile
	order   sync.WaitGroup     // the consensus
	running sync.WaitGroup     // the rest
	mu      sync.Mutex         // guards err
	err     error
}

// Start opens the database at path and runs a group of one on it. It returns when
// the node accepts changes.
func Start(ctx context.Context, path string, opt database.Options) (*Node, error) {
	return StartMember(ctx, path, opt, consensus.Options{ID: 1})
}

// StartMember is Start with a consensus of the caller's. A member that joins a
// group is not waited for.
func StartMember(ctx context.Context, path string, opt database.Options, group consensus.Options) (*Node, error) {
	n := &Node{Tree: tree.New()}
	var err error
	if n.Database, err = database.Open(path, n.Tree, opt); err != nil {
		return nil, err
	}
	group.Storage, group.Applier = n.Database, n.Database
	if n.Consensus, err = consensus.New(group); err != nil {
		return nil, errors.Join(err, n.Database.Close())
	}
	n.ctx, n.stop = context.WithCancel(ctx)
	member, retire := context.WithCancel(n.ctx)
	n.retire = retire
	n.order.Go(func() { n.note(n.Consensus.Run(member)) })
	n.running.Go(func() { n.note(n.Database.Run(n.ctx)) })
	if !group.Join {
		err = n.WaitApplied(ctx, n.Database.Recovered().Last)
	}
	if err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

// WaitApplied returns when the node is quorate and has applied the entry at index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	for {
		if s := n.Consensus.Status(); s.Quorate && s.Applied >= index {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("applied %d of %d: %w", n.Consensus.Status().Applied, index, ctx.Err())
		case <-n.Database.Failed():
			return n.Database.Err()
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// Save writes a file as the root user.
func (n *Node) Save(ctx context.Context, path string, data []byte) error {
	return n.Do(ctx, &command.Command{Op: command.Write, Path: path, Data: data})
}

// Do proposes c and returns why it was refused.
func (n *Node) Do(ctx context.Context, c *command.Command) error {
	if c.Time == 0 {
		c.Time = time.Now().Unix()
	}
	r, err := n.Consensus.Propose(ctx, c)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return fmt.Errorf("%v %s: %w", c.Op, c.Path, err)
	}
	return nil
}

// Halt ends the node without completing its database, as a crash would.
func (n *Node) Halt() error {
	n.stop()
	n.order.Wait()
	n.running.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Stop ends the node cleanly: a leader hands its duty over first.
func (n *Node) Stop() error {
	n.retire()
	n.order.Wait()
	return errors.Join(n.Halt(), n.Database.Close())
}

func (n *Node) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = errors.Join(n.err, err)
}
