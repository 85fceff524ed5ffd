package node

import (
	"strings"
	"sync"

	"etcpve/cfs/layout"
)

// changes are the files at which something happened since they were read. What
// events tell is only where to look.
type changes struct {
	mu    sync.Mutex // guards what follows
	paths map[string]bool
	all   bool // events may have been lost, or none were seen yet
}

// note adds a file; everything adds all of them.
func (c *changes) note(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paths == nil {
		c.paths = map[string]bool{}
	}
	c.paths[path] = true
}

func (c *changes) everything() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = true
}

// take returns what was noted, and forgets it.
func (c *changes) take() (paths map[string]bool, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths, all = c.paths, c.all
	c.paths, c.all = nil, false
	return paths, all
}

// in returns what a watch of a directory does with the name of an entry.
func (c *changes) in(dir, suffix string) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		if !strings.HasSuffix(name, suffix) {
			return "", false
		}
		c.note(layout.Join(dir, name))
		return key, true
	}
}
