// Package origin tells changes that the local kernel asked for from those of
// strangers.
//
// It remembers the commands that are being proposed here. It decides nothing
// about what follows from a change's origin.
package origin

import (
	"slices"
	"sync"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// Origin says what the local kernel knows of a change by itself.
type Origin uint8

const (
	// Remote: nothing. Its caches must be told and the bell rung.
	Remote Origin = iota
	// Own: everything. The change is what a request of the kernel asked for.
	Own
	// Collected: the names, but its event came with the writes, before the
	// content was there to be read. The bell tells that it is.
	Collected
)

// keptProposals is how many proposals of this node are remembered until their
// changes arrive.
const keptProposals = 4096

// Proposals knows which changes come from requests of the local kernel. Its
// methods are safe for concurrent use.
type Proposals struct {
	mu    sync.Mutex // guards what follows
	made  map[uint64]proposal
	order []uint64
}

type proposal struct {
	origin Origin
	path   string // of the change the kernel knows of; a command may have others
}

// New returns an empty table.
func New() *Proposals { return &Proposals{made: map[uint64]proposal{}} }

// Begin notes that c is about to be proposed.
func (p *Proposals) Begin(c *command.Command, origin Origin) {
	if origin == Remote {
		return
	}
	path := c.Path
	if c.Op == command.Rename {
		path = c.To
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[c.ID] = proposal{origin, path}
	p.order = append(p.order, c.ID)
	if len(p.order) > keptProposals {
		delete(p.made, p.order[0])
		p.order = slices.Delete(p.order, 0, 1)
	}
}

// Abandon makes the changes of a command those of a stranger: whoever proposed
// it does not wait for it any more.
func (p *Proposals) Abandon(c *command.Command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, c.ID)
}

// Of returns the origin of a change.
func (p *Proposals) Of(c tree.Change) Origin {
	p.mu.Lock()
	defer p.mu.Unlock()
	if made, ok := p.made[c.ID]; ok && made.path == c.Path {
		return made.origin
	}
	return Remote
}
