package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"etcpve/cfs/layout"
)

// ErrNoRevision is the cause when the history does not hold what is asked for.
var ErrNoRevision = errors.New("no such revision")

// Revision is one kept version of a file. Index 0 is a content that is older than
// the log.
type Revision struct {
	Index   uint64
	Time    int64
	Node    string
	UID     uint32
	Bytes   int
	Removed bool // the file was removed, or renamed to somewhere else
}

// Name is a file or directory that has a history, whether or not it still exists.
type Name struct {
	Name string
	Dir  bool
}

// Revisions returns what happened to the file at path, oldest first.
func (d *Database) Revisions(ctx context.Context, path string) (list []Revision, err error) {
	err = d.recall(ctx, "SELECT idx, time, node, uid, bytes, source FROM history WHERE path = ? ORDER BY idx", []driver.Value{path}, func(v []driver.Value) error {
		list = append(list, Revision{Index: number(v[0]), Time: int64(number(v[1])), Node: text(v[2]), UID: uint32(number(v[3])), Bytes: int(number(v[4])), Removed: number(v[5]) == 0})
		return nil
	})
	return list, err
}

// Content returns the content that the file at path got at index.
func (d *Database) Content(ctx context.Context, path string, index uint64) ([]byte, error) {
	source := int64(0)
	err := d.recall(ctx, "SELECT source FROM history WHERE path = ? AND idx = ?", []driver.Value{path, int64(index)}, func(v []driver.Value) error {
		source = v[0].(int64)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if source == 0 {
		return nil, fmt.Errorf("%s at %d: %w", path, index, ErrNoRevision)
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	return fetch(d.r, source)
}

// Names returns what has a history in a directory, in byte order.
func (d *Database) Names(ctx context.Context, dir string) (names []Name, err error) {
	prefix := layout.Join(dir, "")
	for from := prefix; ; {
		path, found := "", false
		err := d.recall(ctx, "SELECT path FROM history WHERE path >= ? ORDER BY path LIMIT 1", []driver.Value{from}, func(v []driver.Value) error {
			path, found = text(v[0]), true
			return nil
		})
		if err != nil {
			return nil, err
		}
		rest, inside := strings.CutPrefix(path, prefix)
		if !found || !inside {
			break
		}
		name, _, isDir := strings.Cut(rest, "/")
		names = append(names, Name{name, isDir})
		if isDir {
			from = prefix + name + "0" // the byte after the slash
		} else {
			from = path + "\x00"
		}
	}
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(names, func(a, b Name) bool { return a.Name == b.Name }), nil
}

// recall asks the history, including what was saved a moment ago.
func (d *Database) recall(ctx context.Context, query string, args []driver.Value, row func([]driver.Value) error) error {
	d.mu.Lock()
	behind := len(d.dirty.history) > 0
	d.mu.Unlock()
	if behind {
		if err := d.Flush(ctx); err != nil {
			return err
		}
	}
	// A batch that is being written at this moment is part of the past, too.
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.reading.Lock()
	defer d.reading.Unlock()
	if err := d.r.each(query, args, row); err != nil {
		return fmt.Errorf("database %s: read the history: %w", d.path, err)
	}
	return nil
}
