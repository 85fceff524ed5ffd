package cfstest

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"etcpve/cfs/consensus"
	"etcpve/cfs/database"
)

// Network carries messages between nodes in one process. Links can be cut.
type Network struct {
	mu    sync.Mutex // guards what follows
	nodes map[uint64]*Node
	inbox map[uint64]chan []byte
	cut   map[uint64]bool
}

// NewNetwork returns a network without nodes.
func NewNetwork() *Network {
	return &Network{nodes: map[uint64]*Node{}, inbox: map[uint64]chan []byte{}, cut: map[uint64]bool{}}
}

// Start starts a member below dir. The first one forms the group, the others wait
// to be taken in.
func (w *Network) Start(ctx context.Context, dir string, id uint64, opt database.Options, join bool) (*Node, error) {
	inbox := make(chan []byte, 1024)
	w.mu.Lock()
	w.inbox[id] = inbox
	w.mu.Unlock()
	path := filepath.Join(dir, fmt.Sprintf("%d.db", id))
	n, err := StartMember(ctx, path, opt, consensus.Options{ID: id, Transport: link{w, id}, Join: join})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.nodes[id] = n
	w.mu.Unlock()
	n.running.Go(func() { deliver(n, inbox) })
	return n, nil
}

// Cut takes a node off the network, or puts it back.
func (w *Network) Cut(id uint64, off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[id] = off
}

// deliver hands messages to a node until it ends.
func deliver(n *Node, inbox <-chan []byte) {
	for {
		select {
		case m := <-inbox:
			// Step fails for a node that is ending, and the next round notices.
			_ = n.Consensus.Step(n.ctx, m)
		case <-n.ctx.Done():
			return
		}
	}
}

// link is the network as one node sees it.
type link struct {
	network *Network
	from    uint64
}

// Send implements consensus.Transport; a full inbox loses messages.
func (l link) Send(to uint64, message []byte) {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	inbox, ok := l.network.inbox[to]
	if !ok || l.network.cut[to] || l.network.cut[l.from] {
		return
	}
	select {
	case inbox <- message:
	default:
	}
}
