package database

import (
	"context"
	"database/sql/driver"
	"time"
)

// trimEvery is how often the history is compared with its budget.
const trimEvery = time.Hour

// trimStep is how many rows of the log are deleted in one transaction, which
// holds up saves.
const trimStep = 256

// trimIfDue trims early when much has been saved.
func (d *Database) trimIfDue() error {
	d.writing.Lock()
	due := d.logged.bytes > d.opt.HistoryBytes+d.opt.HistoryBytes/8
	d.writing.Unlock()
	if !due {
		return nil
	}
	return d.trim()
}

// trim deletes the oldest part of the history when it exceeds its budget. What
// the tree's rows still need is copied there first; no flush comes in between,
// which could refer to the old rows anew.
func (d *Database) trim() error {
	if err := d.Flush(context.Background()); err != nil {
		return err
	}
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.writing.Lock()
	cut, err := d.excess()
	base := d.logged.base
	d.writing.Unlock()
	if err != nil {
		return d.fail("measure the history", err)
	}
	if cut <= base {
		return nil
	}
	if err := d.inline(func(source int64) bool { return source <= int64(cut) }); err != nil {
		return err
	}
	for base < cut {
		base = min(base+trimStep, cut)
		if err := d.trimTo(base); err != nil {
			return d.fail("trim the history", err)
		}
	}
	d.opt.Log.Info("history trimmed", "index", cut)
	return nil
}

// excess returns the index up to which the log is over its budget, but never what
// is not yet in the tree's rows.
func (d *Database) excess() (cut uint64, err error) {
	over := d.logged.bytes - d.opt.HistoryBytes
	oldest := d.opt.Now().Add(-d.opt.HistoryAge).Unix()
	err = d.w.each("SELECT coalesce(max(idx), 0) FROM history WHERE time < ?", []driver.Value{oldest}, func(v []driver.Value) error {
		cut = number(v[0])
		return nil
	})
	if err != nil {
		return 0, err
	}
	if over > 0 {
		err = d.w.each("SELECT idx FROM (SELECT idx, sum(length(data)) OVER (ORDER BY idx) AS total FROM log) WHERE total >= ? LIMIT 1", []driver.Value{over}, func(v []driver.Value) error {
			cut = max(cut, number(v[0]))
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	err = d.w.each("SELECT value FROM meta WHERE key = ?", []driver.Value{metaApplied}, func(v []driver.Value) error {
		cut = min(cut, number(v[0]))
		return nil
	})
	return cut, err
}

// trimTo deletes everything up to and including the entry at index.
func (d *Database) trimTo(index uint64) error {
	term, err := d.Term(index)
	if err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	bytes, bases, err := d.weigh(index)
	if err != nil {
		return err
	}
	err = d.w.transaction(func() error {
		if err := d.setBase(index, term); err != nil {
			return err
		}
		if err := d.setMeta(metaLogBytes, uint64(d.logged.bytes-bytes)); err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM history WHERE source > 0 AND source <= ?1 OR source = 0 AND idx <= ?1 OR source < 0 AND source >= -?2",
			"DELETE FROM content WHERE source > 0 AND source <= ?1 OR source < 0 AND source >= -?2",
			"DELETE FROM base WHERE ?1 >= 0 AND id <= ?2",
			"DELETE FROM log WHERE idx <= ?1 AND ?2 >= 0",
		} {
			if err := d.w.exec(q, int64(index), bases); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.logged.base, d.logged.baseTerm = index, term
	d.logged.bytes -= bytes
	d.forget(int64(index), bases)
	return nil
}

func (d *Database) setBase(index, term uint64) error {
	if err := d.setMeta(metaBase, index); err != nil {
		return err
	}
	return d.setMeta(metaBaseTerm, term)
}

// weigh returns the bytes of the log up to index, and the last base of that time.
func (d *Database) weigh(index uint64) (bytes, bases int64, err error) {
	const query = "SELECT (SELECT coalesce(sum(length(data)), 0) FROM log WHERE idx <= ?1), (SELECT coalesce(max(id), 0) FROM base WHERE idx <= ?1)"
	err = d.w.each(query, []driver.Value{int64(index)}, func(v []driver.Value) error {
		bytes, bases = v[0].(int64), v[1].(int64)
		return nil
	})
	return bytes, bases, err
}

// forget drops references to rows that are gone.
func (d *Database) forget(upTo, bases int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for inode, source := range d.content {
		if source > 0 && source <= upTo || source < 0 && source >= -bases {
			delete(d.content, inode)
		}
	}
}
