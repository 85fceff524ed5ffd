// Package presence remembers which nodes of a cluster answer, and since when.
//
// It owns the times of their coming and going. It never asks: it is told who answers.
package presence

import (
	"slices"
	"sync"
	"time"
)

// Presence remembers since when nodes have been answering or silent.
type Presence struct {
	now func() time.Time

	mu    sync.Mutex // guards nodes
	nodes map[string]spell
}

// A spell is a time during which a node answered, or did not.
type spell struct {
	alive bool
	from  time.Time
}

// New returns one that has heard of nobody.
func New(now func() time.Time) *Presence {
	return &Presence{now: now, nodes: map[string]spell{}}
}

// Update notes who answers now and returns the nodes that have come and those that have
// gone silent.
func (p *Presence) Update(alive []string) (came, gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, node := range alive {
		if !p.nodes[node].alive {
			p.nodes[node] = spell{true, now}
			came = append(came, node)
		}
	}
	for node, s := range p.nodes {
		if s.alive && !slices.Contains(alive, node) {
			p.nodes[node] = spell{false, now}
			gone = append(gone, node)
		}
	}
	slices.Sort(gone)
	return came, gone
}

// Since reports whether a node answers, and for how long it has or has not. A
// node never heard of has been silent since the first question about it.
func (p *Presence) Since(node string) (alive bool, span time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.nodes[node]
	if !known {
		s = spell{false, p.now()}
		p.nodes[node] = s
	}
	return s.alive, p.now().Sub(s.from)
}

// IsAlive reports whether a node answers.
func (p *Presence) IsAlive(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[node].alive
}
