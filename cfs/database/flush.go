package database

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// inlineUpTo is the content size in bytes up to which the tree's row repeats what
// the log holds. Larger content would reach the disk twice over; the row refers
// to the log until the database is closed.
const inlineUpTo = 4096

// batch is one consistent state of everything that must be written.
type batch struct {
	dirty
	applied applied
	version uint64
	root    tree.Entry
	rows    []row
}

// row is an entry of the tree as it goes to disk; gone ones have only an inode.
type row struct {
	tree.Entry
	source int64
	gone   bool
}

// Flush writes everything that was applied into the tree's rows, in one
// transaction.
func (d *Database) Flush(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	b, ok := d.take()
	if !ok {
		return d.Err()
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.Err(); err != nil {
		return err
	}
	if err := d.w.transaction(func() error { return d.write(b) }); err != nil {
		return d.fail("write the tree", err)
	}
	d.wrote(b.bytes + 120*(len(b.rows)+len(b.history)+len(b.recent)))
	return nil
}

// take cuts off what is dirty. Nothing is applied meanwhile, so the batch is the
// state at one index.
func (d *Database) take() (b batch, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirty.empty() {
		return b, false
	}
	b = batch{dirty: d.dirty, applied: d.applied, version: d.tree.Version()}
	b.root, _ = d.tree.Get(tree.Root)
	for _, inode := range slices.Sorted(maps.Keys(d.dirty.entries)) {
		if inode == tree.Root {
			continue
		}
		e, ok := d.tree.Get(inode)
		e.Inode = inode
		b.rows = append(b.rows, row{e, d.content[inode], !ok})
	}
	d.dirty.clear()
	return b, true
}

func (d *Database) write(b batch) error {
	for _, r := range b.rows {
		if err := d.writeRow(r); err != nil {
			return err
		}
	}
	for _, x := range b.bases {
		if err := d.w.exec("INSERT INTO base (id, idx, data) VALUES (?, ?, ?)", x.id, int64(x.index), x.data); err != nil {
			return err
		}
	}
	for _, r := range b.history {
		if err := d.w.exec("INSERT OR REPLACE INTO history (path, idx, source, bytes, time, node, uid) VALUES (?, ?, ?, ?, ?, ?, ?)",
			r.path, int64(r.index), r.source, int64(r.bytes), r.time, r.node, int64(r.uid)); err != nil {
			return err
		}
	}
	if err := d.writeRecent(b.recent); err != nil {
		return err
	}
	return d.writeApplied(b)
}

func (d *Database) writeRecent(list []tree.Remembered) error {
	for _, m := range list {
		if err := d.w.exec("INSERT OR REPLACE INTO recent (slot, id, idx, inode, code) VALUES (?, ?, ?, ?, ?)",
			int64(m.Slot), int64(m.ID), int64(m.Index), int64(m.Inode), int64(m.Code)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Database) writeApplied(b batch) error {
	if err := d.writeRow(row{Entry: tree.Entry{Name: versionName, Version: b.version, Writer: b.root.Writer, Mtime: b.root.Mtime}}); err != nil {
		return err
	}
	for _, m := range []struct {
		key   string
		value any
	}{
		{metaFormat, uint64(format)}, {metaVersion, b.version}, {metaMembers, b.applied.members}, {metaLogBytes, uint64(d.logged.bytes)},
		{metaApplied, b.applied.index}, {metaAppliedTerm, b.applied.term}, {metaCommit, max(d.hard.Commit, b.applied.index)},
	} {
		if err := d.setMeta(m.key, m.value); err != nil {
			return err
		}
	}
	return nil
}

func (d *Database) writeRow(r row) error {
	inode := int64(r.Inode)
	if r.gone {
		if err := d.w.exec("DELETE FROM content WHERE inode = ?", inode); err != nil {
			return err
		}
		return d.w.exec("DELETE FROM tree WHERE inode = ?", inode)
	}
	kind, data, inline := int64(typeFile), r.Data, int64(1)
	if r.Dir {
		kind = typeDir
	}
	if r.source != 0 {
		if len(data) > inlineUpTo {
			data, inline = nil, 0
		}
		if err := d.w.exec("INSERT OR REPLACE INTO content (inode, source, inline) VALUES (?, ?, ?)", inode, r.source, inline); err != nil {
			return err
		}
	}
	var value driver.Value
	if len(data) > 0 { // the field stores NULL for an empty file and for directories
		value = data
	}
	return d.w.exec("INSERT OR REPLACE INTO tree (inode, parent, version, writer, mtime, type, name, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		inode, int64(r.Parent), int64(r.Version), int64(r.Writer), r.Mtime, kind, r.Name, value)
}

// fetch reads a content from where it is kept besides the tree: a row of the log,
// or, if source is negative, a row of base.
func fetch(c *conn, source int64) (data []byte, err error) {
	query := "SELECT data FROM log WHERE idx = ?"
	if source < 0 {
		query, source = "SELECT data FROM base WHERE id = ?", -source
	}
	err = fmt.Errorf("content %d: %w", source, ErrMissing)
	if each := c.each(query, []driver.Value{source}, func(v []driver.Value) error {
		data, err = blob(v[0]), nil
		return nil
	}); each != nil {
		return nil, each
	}
	if err != nil || query == "SELECT data FROM base WHERE id = ?" {
		return data, err
	}
	cmd, err := command.Unmarshal(data)
	if err != nil {
		return nil, fmt.Errorf("log index %d: %w", source, err)
	}
	return cmd.Data, nil
}

// inline completes the tree's rows whose content is kept where selected says, a
// few at a time so that saves are not held up.
func (d *Database) inline(selected func(source int64) bool) error {
	type reference struct{ inode, source int64 }
	var todo []reference
	d.writing.Lock()
	err := d.w.each("SELECT inode, source FROM content WHERE inline = 0", nil, func(v []driver.Value) error {
		if r := (reference{v[0].(int64), v[1].(int64)}); selected(r.source) {
			todo = append(todo, r)
		}
		return nil
	})
	d.writing.Unlock()
	if err != nil {
		return d.fail("read contents", err)
	}
	for some := range slices.Chunk(todo, 16) {
		d.writing.Lock()
		err := d.w.transaction(func() error {
			for _, r := range some {
				data, err := fetch(d.w, r.source)
				if err != nil {
					return err
				}
				if err := d.w.exec("UPDATE tree SET data = ? WHERE inode = ? AND data IS NULL", data, r.inode); err != nil {
					return err
				}
				if err := d.w.exec("UPDATE content SET inline = 1 WHERE inode = ?", r.inode); err != nil {
					return err
				}
				d.wrote(len(data))
			}
			return nil
		})
		d.writing.Unlock()
		if err != nil {
			return d.fail("complete the tree", err)
		}
	}
	return nil
}

// checkpointIfDue copies the write-ahead log back once it has grown.
func (d *Database) checkpointIfDue() error {
	d.writing.Lock()
	due := d.walBytes >= checkpointBytes
	d.writing.Unlock()
	if !due {
		return nil
	}
	return d.Checkpoint()
}

// Checkpoint copies the write-ahead log back.
func (d *Database) Checkpoint() error {
	// Most of it while saves go on; the little that they add meanwhile with the
	// writer held, so that the next save can start the file over.
	if err := d.checkpoint(); err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	d.walBytes = 0
	return d.checkpoint()
}

func (d *Database) checkpoint() error {
	if err := d.Err(); err != nil {
		return err
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	if err := d.r.each("PRAGMA wal_checkpoint(PASSIVE)", nil, func([]driver.Value) error { return nil }); err != nil {
		return d.fail("checkpoint", err)
	}
	return nil
}
