// Package known keeps which directories the kernel knows.
//
// The kernel remembers a name, or watches one, only in a directory that it has
// looked up and not forgotten. A change in any other directory needs no telling:
// the kernel can have nothing of it that is old. On a node of a large cluster
// that is most of what the others write.
//
// The package owns the counts of lookups. It never asks the kernel, and knows
// nothing of what is in a directory.
package known

import "sync"

// Dirs are directories by inode. The zero value knows none.
type Dirs struct {
	mu      sync.Mutex // guards lookups
	lookups map[uint64]count
}

// count is of one directory.
type count struct {
	n      uint64 // answers that the kernel has not given back
	relied bool   // it may rely on one of them
}

// Enter notes that the kernel is being told of a directory. If it must ask again
// before it goes in there, as after a change that was only rung, that is not to
// know it.
func (d *Dirs) Enter(inode uint64, mustAsk bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lookups == nil {
		d.lookups = map[uint64]count{}
	}
	c := d.lookups[inode]
	d.lookups[inode] = count{c.n + 1, c.relied || !mustAsk}
}

// Forget notes that the kernel has forgotten as many lookups of an inode, which
// need not be a directory's.
func (d *Dirs) Forget(inode, lookups uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.lookups[inode]; !ok {
		return
	} else if c.n > lookups {
		d.lookups[inode] = count{c.n - lookups, c.relied}
		return
	}
	delete(d.lookups, inode)
}

// Has reports whether the kernel may know a directory.
func (d *Dirs) Has(inode uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookups[inode].relied
}
