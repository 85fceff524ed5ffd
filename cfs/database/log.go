package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"syscall"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// ErrMissing is the cause when an entry is not in the log.
var ErrMissing = errors.New("entry is not in the log")

// Recovered returns where the node stands after Open.
func (d *Database) Recovered() command.Recovered {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	return command.Recovered{HardState: d.hard, Members: d.applied.members, Applied: d.applied.index, Base: d.logged.base, Last: d.logged.last}
}

// Append makes entries and hard state durable with one sync. Entries at and after
// the first new one are replaced. A change of the commit index alone is not worth
// a transaction: it is only a hint, and is written with the next flush.
func (d *Database) Append(hard command.HardState, entries []command.Entry) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.Err(); err != nil {
		return err
	}
	vote := hard.Term != d.hard.Term || hard.Vote != d.hard.Vote
	if vote || len(entries) > 0 {
		if err := d.w.transaction(func() error { return d.append(hard, vote, entries) }); err != nil {
			return d.fail("append to the log", err)
		}
	}
	d.hard = hard
	return nil
}

func (d *Database) append(hard command.HardState, vote bool, entries []command.Entry) error {
	if vote {
		if err := d.setMeta(metaTerm, hard.Term); err != nil {
			return err
		}
		if err := d.setMeta(metaVote, hard.Vote); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if first := entries[0].Index; first <= d.logged.last {
		if err := d.w.exec("DELETE FROM log WHERE idx >= ?", int64(first)); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := d.w.exec("INSERT INTO log (idx, term, kind, data) VALUES (?, ?, ?, ?)", int64(e.Index), int64(e.Term), int64(e.Kind), e.Data); err != nil {
			return err
		}
		d.logged.bytes += int64(len(e.Data))
		d.wrote(len(e.Data))
	}
	d.logged.last = entries[len(entries)-1].Index
	return nil
}

// wrote estimates the bytes that a row adds to the write-ahead log.
func (d *Database) wrote(bytes int) {
	d.walBytes += bytes + 2*pageSize
	if d.walBytes >= checkpointBytes {
		d.wakeUp()
	}
}

// Entries returns the entries from lo up to but not including hi: at least one,
// then as many as fit into limit bytes.
func (d *Database) Entries(lo, hi, limit uint64) (entries []command.Entry, err error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	size := uint64(0)
	full := errors.New("enough")
	err = d.r.each("SELECT idx, term, kind, data FROM log WHERE idx >= ? AND idx < ? ORDER BY idx", []driver.Value{int64(lo), int64(hi)}, func(v []driver.Value) error {
		e := command.Entry{Index: number(v[0]), Term: number(v[1]), Kind: command.EntryKind(number(v[2])), Data: blob(v[3])}
		if e.Index != lo+uint64(len(entries)) {
			return fmt.Errorf("log index %d: %w", lo+uint64(len(entries)), ErrMissing)
		}
		if size += uint64(len(e.Data)); len(entries) > 0 && size > limit {
			return full
		}
		entries = append(entries, e)
		return nil
	})
	switch {
	case errors.Is(err, full):
		return entries, nil
	case err == nil && len(entries) == 0:
		err = fmt.Errorf("log index %d: %w", lo, ErrMissing)
	}
	return entries, err
}

// Term returns the term of an entry of the log, or of its base.
func (d *Database) Term(index uint64) (term uint64, err error) {
	d.writing.Lock()
	base, baseTerm := d.logged.base, d.logged.baseTerm
	d.writing.Unlock()
	if index == base {
		return baseTerm, nil
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	err = fmt.Errorf("log index %d: %w", index, ErrMissing)
	each := d.r.each("SELECT term FROM log WHERE idx = ?", []driver.Value{int64(index)}, func(v []driver.Value) error {
		term, err = number(v[0]), nil
		return nil
	})
	return term, errors.Join(err, each)
}

// reserve is the free disk space in bytes below which saves are refused, so that
// what was accepted can always be written: the tree's rows, a checkpoint, the
// entries under way. Three times 4 MiB and some air.
const reserve = 16 << 20

// Room refuses further saves while the disk is nearly full.
func (d *Database) Room() error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.path, &s); err != nil {
		return fmt.Errorf("database %s: %w", d.path, err)
	}
	if s.Bavail*uint64(s.Bsize) < reserve {
		return fmt.Errorf("database %s: %w", d.path, tree.ErrNoSpace)
	}
	return nil
}
