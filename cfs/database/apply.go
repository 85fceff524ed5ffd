package database

import (
	"fmt"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// dirty is what the tree's rows lack.
type dirty struct {
	since   time.Time // of the oldest change
	bytes   int       // of changed content, counting each save
	entries map[uint64]struct{}
	history []record
	bases   []base
	recent  []tree.Remembered
	moved   bool // applied has moved, perhaps without any other effect
}

// record is a row of the history. Source 0 means that path ended there.
type record struct {
	path   string
	index  uint64
	source int64 // see fetch
	bytes  int
	time   int64
	node   string
	uid    uint32
}

// base is an overwritten content that is in no row of the log.
type base struct {
	id    int64
	index uint64
	data  []byte
}

func (p *dirty) clear() { *p = dirty{entries: map[uint64]struct{}{}} }

func (p *dirty) empty() bool { return !p.moved }

// Apply carries out entries, which are in the log, and shows their effects to the
// readers of the tree all at once. A result stands for each entry. members, if
// not nil, are those of the group from the last of the entries on.
func (d *Database) Apply(entries []command.Entry, members []byte) (results []tree.Result, changes []tree.Change, err error) {
	if err := d.Err(); err != nil {
		return nil, nil, err
	}
	commands := make([]*command.Command, len(entries))
	for i, e := range entries {
		if e.Kind != command.Change || len(e.Data) == 0 {
			continue
		}
		// Whoever cannot read an entry must not go on without it.
		if commands[i], err = command.Unmarshal(e.Data); err != nil {
			return nil, nil, d.fail(fmt.Sprintf("apply log index %d", e.Index), err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.tree.Begin()
	for i, c := range commands {
		r := tree.Result{Index: entries[i].Index}
		if c == nil {
			x.Skip(r.Index)
		} else {
			var effects []tree.Change
			r, effects = x.Apply(r.Index, c)
			d.note(effects)
			changes = append(changes, effects...)
		}
		results = append(results, r)
	}
	clean := d.dirty.empty()
	d.remember(x, entries)
	if members != nil {
		d.applied.members = members
	}
	x.Publish()
	if clean || d.crowded() {
		d.wakeUp()
	}
	return results, changes, nil
}

// remember adds the effects of x to what must be written.
func (d *Database) remember(x *tree.Txn, entries []command.Entry) {
	if len(entries) == 0 {
		return
	}
	if d.dirty.empty() {
		d.dirty.since, d.dirty.moved = d.opt.Now(), true
	}
	for _, inode := range x.Dirty() {
		d.dirty.entries[inode] = struct{}{}
	}
	d.dirty.recent = append(d.dirty.recent, x.Remembered()...)
	last := entries[len(entries)-1]
	d.applied.index, d.applied.term = last.Index, last.Term
}

// note adds the changes of one command to the history.
func (d *Database) note(changes []tree.Change) {
	for _, c := range changes {
		if c.Dir || c.Kind == tree.Touched {
			continue
		}
		r := record{path: c.Path, index: c.Index, bytes: c.Size, time: c.Time, node: c.Node, uid: c.UID}
		switch c.Kind {
		case tree.Created, tree.Modified:
			d.preserve(c.Inode, c)
			r.source = int64(c.Index)
			d.content[c.Inode] = r.source
			d.dirty.bytes += c.Size
		case tree.Removed:
			d.preserve(c.Inode, c)
			delete(d.content, c.Inode)
			r.bytes = 0
		case tree.Renamed:
			d.preserve(c.Inode, c)
			if c.Replaced != 0 {
				d.preserve(c.Replaced, c)
				delete(d.content, c.Replaced)
			}
			r.source = d.content[c.Inode]
			gone := r
			gone.path, gone.source, gone.bytes = c.From, 0, 0
			d.dirty.history = append(d.dirty.history, gone)
		}
		d.dirty.history = append(d.dirty.history, r)
	}
}

// preserve keeps the content that a file had before it was first changed through
// the log. The tree still shows it, as nothing of this batch is published yet.
func (d *Database) preserve(inode uint64, c tree.Change) {
	if d.content[inode] != 0 {
		return
	}
	e, ok := d.tree.Get(inode)
	if !ok || e.Dir {
		return
	}
	path, _ := d.tree.Path(inode)
	d.nextBase++
	d.content[inode] = -d.nextBase
	d.dirty.bases = append(d.dirty.bases, base{d.nextBase, c.Index, e.Data})
	d.dirty.history = append(d.dirty.history, record{path: path, source: -d.nextBase, bytes: len(e.Data), time: e.Mtime})
	d.dirty.bytes += len(e.Data)
}
