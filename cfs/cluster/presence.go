package cluster

import (
	"slices"
	"sync"
	"time"
)

// presence remembers since when nodes have been answering or silent.
type presence struct {
	now func() time.Time

	mu    sync.Mutex // guards nodes
	nodes map[string]spell
}

// A spell is a time during which a node answered, or did not.
type spell struct {
	alive bool
	from  time.Time
}

func newPresence(now func() time.Time) *presence {
	return &presence{now: now, nodes: map[string]spell{}}
}

// update notes who answers now and returns the nodes that have come and those that have
// gone silent.
func (p *presence) update(alive []string) (came, gone []string) {
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

// since reports whether a node answers, and for how long it has or has not. A
// node never heard of has been silent since the first question about it.
func (p *presence) since(node string) (alive bool, span time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.nodes[node]
	if !known {
		s = spell{false, p.now()}
		p.nodes[node] = s
	}
	return s.alive, p.now().Sub(s.from)
}

// isAlive reports whether a node answers.
func (p *presence) isAlive(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[node].alive
}
