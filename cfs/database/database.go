// Package database keeps the replicated log, the applied tree and its history in
// one SQLite file.
//
// It owns the file and what is durable when: a save is durable as a row of the
// log, written with one sync; the tree's rows follow later in batches, and a
// restart replays the log from where they end. The table "tree" is that of the
// field's own daemon, so a database can be taken over in either direction. It
// never decides what a change means (cfs/tree) nor in which order changes come
// (cfs/consensus).
package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// Options of a database. The zero value of a field means its default.
type Options struct {
	Log *slog.Logger
	// HistoryBytes and HistoryAge bound what is kept of old versions.
	HistoryBytes int64         // default 256 MiB
	HistoryAge   time.Duration // default 90 days
	FlushEvery   time.Duration // default 2 s: how long the tree's rows may lag behind the log
	FlushBytes   int           // default 4 MiB of changed content
	FlushEntries int           // default 512 changed entries
	Now          func() time.Time
}

// checkpointBytes is the size of the write-ahead log from which it is copied back.
const checkpointBytes = 4 << 20

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for p, v := range map[*int64]int64{&o.HistoryBytes: 256 << 20, (*int64)(&o.HistoryAge): int64(90 * 24 * time.Hour), (*int64)(&o.FlushEvery): int64(2 * time.Second)} {
		if *p == 0 {
			*p = v
		}
	}
	if o.FlushBytes == 0 {
		o.FlushBytes = 4 << 20
	}
	if o.FlushEntries == 0 {
		o.FlushEntries = 512
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Database is an open database and the tree that it holds. Append, Apply
// and Install are called by one goroutine; everything else may be called by any.
type Database struct {
	path string
	opt  Options
	tree *tree.Tree
	wake chan struct{} // has something for Run

	flushing sync.Mutex // held during a whole flush, before the others

	writing  sync.Mutex // guards w, walBytes, logged and hard
	w        *conn
	walBytes int
	logged   logged
	hard     command.HardState

	reading sync.Mutex // guards r
	r       *conn

	mu      sync.Mutex // guards what follows: the applied state that is not on disk yet
	applied applied
	dirty   dirty
	content map[uint64]int64 // inode → where its content is kept besides the tree, see fetch
	// nextBase is the last number given to a row of base.
	nextBase int64

	once   sync.Once
	failed chan struct{}
	err    error // valid once failed is closed
}

// logged is what the log holds.
type logged struct {
	base, baseTerm uint64 // entries up to base are not needed by the consensus
	last           uint64
	bytes          int64 // of all rows, including those kept for the history alone
}

// applied is where the tree stands.
type applied struct {
	index, term uint64
	members     []byte
}

// Open opens or creates the database at path and loads its tree into t.
func Open(path string, t *tree.Tree, opt Options) (*Database, error) {
	opt.setDefaults()
	d := &Database{path: path, opt: opt, tree: t, wake: make(chan struct{}, 1), failed: make(chan struct{})}
	d.dirty.clear()
	err := d.open()
	if err != nil {
		d.disconnect()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return d, nil
}

func (d *Database) open() (err error) {
	// The checkpointer is ours: SQLite's own would run inside a save.
	const options = "_synchronous=FULL&_busy_timeout=5000"
	if d.w, err = connect(d.path, options); err != nil {
		return err
	}
	if err := d.w.paged(); err != nil {
		return err
	}
	if err := d.w.script("PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=16777216"); err != nil {
		return err
	}
	if err := d.w.transaction(func() error { return d.w.script(schema) }); err != nil {
		return err
	}
	if d.r, err = connect(d.path, options); err != nil {
		return err
	}
	if err := d.r.script("PRAGMA wal_autocheckpoint=0"); err != nil {
		return err
	}
	return d.load()
}

// Run writes what Apply has left behind, copies the write-ahead log back and
// trims the history, until ctx ends or the database fails.
func (d *Database) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-d.failed:
			return d.err
		case <-d.wake:
			timer.Reset(d.untilFlush())
			err = d.checkpointIfDue()
		case <-timer.C:
			if err = d.Flush(ctx); err == nil {
				err = d.trimIfDue()
			}
		case <-trim.C:
			err = d.trim()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// untilFlush returns how long the changes of the tree may still wait.
func (d *Database) untilFlush() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dirty.empty():
		return time.Hour
	case d.crowded():
		return 0
	}
	return max(0, d.opt.FlushEvery-d.opt.Now().Sub(d.dirty.since))
}

// crowded reports whether too much is dirty to wait any longer.
func (d *Database) crowded() bool {
	return d.dirty.bytes >= d.opt.FlushBytes || len(d.dirty.entries) >= d.opt.FlushEntries
}

// Failed is closed when the database has failed for good. Nothing is written
// after that, and nothing must be acknowledged.
func (d *Database) Failed() <-chan struct{} { return d.failed }

// Err returns why the database has failed, nil as long as it has not.
func (d *Database) Err() error {
	select {
	case <-d.failed:
		return d.err
	default:
		return nil
	}
}

// fail poisons the database: what SQLite has of the failed write is unknown, so
// only a restart, which looks, may go on.
func (d *Database) fail(action string, err error) error {
	d.once.Do(func() {
		d.err = fmt.Errorf("database %s: %s: %w", d.path, action, err)
		d.opt.Log.Error("database failed", "path", d.path, "err", d.err)
		close(d.failed)
	})
	return d.err
}

// Close makes the file complete, so that the field's daemon can read it, and
// closes it. Run must have returned.
func (d *Database) Close() error {
	err := d.Err()
	if err == nil {
		err = errors.Join(d.Flush(context.Background()), d.complete())
	}
	return errors.Join(err, d.disconnect())
}

// Abandon closes the file as it is, as a crash would. Run must have returned.
func (d *Database) Abandon() error { return d.disconnect() }

// complete writes all contents into the tree's rows and empties the write-ahead log.
func (d *Database) complete() error {
	if err := d.inline(func(int64) bool { return true }); err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.w.script("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return d.fail("checkpoint", err)
	}
	return nil
}

func (d *Database) disconnect() (err error) {
	for _, c := range []*conn{d.r, d.w} {
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}
	return err
}

func (d *Database) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
