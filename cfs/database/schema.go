package database

import (
	"database/sql/driver"
	"fmt"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// schema is what a complete database holds. The first table is the field's.
//
//	meta     single values, see the keys below
//	log      the replicated log; rows up to meta.base are kept for the history alone
//	content  for files saved through the log, the row that holds their content;
//	         inline 0 = the tree's row has no data yet, it is to be had there
//	base     contents that were overwritten and are in no row of the log
//	history  what happened to each path
//	recent   the tree's memory of identified commands
const schema = `
CREATE TABLE IF NOT EXISTS tree (  inode INTEGER PRIMARY KEY NOT NULL,  parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),  version INTEGER NOT NULL CHECK(typeof(version)=='integer'),  writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),  mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),  type INTEGER NOT NULL CHECK(typeof(type)=='integer'),  name TEXT NOT NULL,  data BLOB);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, kind INTEGER NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS content (inode INTEGER PRIMARY KEY, source INTEGER NOT NULL, inline INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS base (id INTEGER PRIMARY KEY, idx INTEGER NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS history (path TEXT NOT NULL, idx INTEGER NOT NULL, source INTEGER NOT NULL, bytes INTEGER NOT NULL, time INTEGER NOT NULL, node TEXT NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (path, idx)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recent (slot INTEGER PRIMARY KEY, id INTEGER NOT NULL, idx INTEGER NOT NULL, inode INTEGER NOT NULL, code INTEGER NOT NULL);
`

// Keys of the table meta.
const (
	metaFormat      = "format" // of this schema
	metaTerm        = "term"
	metaVote        = "vote"
	metaCommit      = "commit"
	metaApplied     = "applied" // the index that the tree's rows stand at
	metaAppliedTerm = "applied_term"
	metaBase        = "base"
	metaBaseTerm    = "base_term"
	metaMembers     = "members"
	metaLogBytes    = "log_bytes"
	metaVersion     = "version" // the tree's, to notice that somebody else has written it
)

const format = 1

// Types of the tree's rows, and the name of the row that holds the version.
const (
	typeDir     = 4
	typeFile    = 8
	versionName = "__version__"
)

func (d *Database) setMeta(key string, value any) error {
	if n, ok := value.(uint64); ok {
		value = int64(n)
	}
	return d.w.exec("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
}

// load reads everything that is kept in RAM.
func (d *Database) load() error {
	meta := map[string]driver.Value{}
	if err := d.w.each("SELECT key, value FROM meta", nil, func(v []driver.Value) error {
		if b, ok := v[1].([]byte); ok {
			v[1] = blob(b)
		}
		meta[text(v[0])] = v[1]
		return nil
	}); err != nil {
		return err
	}
	if f := number(meta[metaFormat]); f > format {
		return shape("format %d is newer than this program", f)
	}
	d.hard = command.HardState{Term: number(meta[metaTerm]), Vote: number(meta[metaVote]), Commit: number(meta[metaCommit])}
	d.applied = applied{number(meta[metaApplied]), number(meta[metaAppliedTerm]), blob(meta[metaMembers])}
	d.logged = logged{base: number(meta[metaBase]), baseTerm: number(meta[metaBaseTerm]), bytes: int64(number(meta[metaLogBytes]))}
	if err := d.loadLog(); err != nil {
		return err
	}
	state, err := d.loadTree()
	if err != nil {
		return err
	}
	if version, ok := meta[metaVersion]; ok && number(version) != state.Version {
		if err := d.disown(); err != nil {
			return err
		}
	}
	state.Index = d.applied.index
	_, err = d.tree.Restore(state)
	return err
}

// disown notes that another daemon has changed the tree's rows since: the log no
// longer says how they came to be, so nobody may get them by replaying it.
func (d *Database) disown() error {
	d.opt.Log.Warn("database was changed by another daemon", "path", d.path)
	if err := d.inline(func(int64) bool { return true }); err != nil {
		return err
	}
	d.content = map[uint64]int64{}
	d.logged.base, d.logged.baseTerm = d.applied.index, d.applied.term
	return d.w.transaction(func() error {
		if err := d.w.exec("DELETE FROM content"); err != nil {
			return err
		}
		return d.setBase(d.logged.base, d.logged.baseTerm)
	})
}

// loadLog measures only the rows that the last flush did not: a long history must
// not delay the start.
func (d *Database) loadLog() error {
	d.logged.last = max(d.logged.base, d.applied.index)
	const query = "SELECT coalesce(max(idx), 0), coalesce((SELECT sum(length(data)) FROM log WHERE idx > ?), 0) FROM log"
	return d.w.each(query, []driver.Value{int64(d.applied.index)}, func(v []driver.Value) error {
		d.logged.last = max(d.logged.last, number(v[0]))
		d.logged.bytes += int64(number(v[1]))
		return nil
	})
}

func (d *Database) loadTree() (s tree.State, err error) {
	elsewhere := map[uint64]int64{}
	d.content = map[uint64]int64{}
	err = d.w.each("SELECT inode, source, inline FROM content", nil, func(v []driver.Value) error {
		d.content[number(v[0])] = int64(number(v[1]))
		if number(v[2]) == 0 {
			elsewhere[number(v[0])] = int64(number(v[1]))
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	err = d.w.each("SELECT inode, parent, version, writer, mtime, type, name, data FROM tree ORDER BY inode", nil, func(v []driver.Value) error {
		e := tree.Entry{Inode: number(v[0]), Parent: number(v[1]), Version: number(v[2]), Writer: uint32(number(v[3])), Mtime: int64(number(v[4])), Name: text(v[6])}
		switch kind := number(v[5]); {
		case e.Inode == tree.Root:
			if e.Name != versionName {
				return shape("root row is called %q", e.Name)
			}
			// The field keeps the tree's version in the root's row; the root itself
			// has none, as it is never changed.
			s.Version, e.Version = e.Version, 0
			s.Root = e
			return nil
		case kind == typeDir:
			e.Dir = true
		case kind == typeFile:
			e.Data = blob(v[7])
		default:
			return shape("inode %d has type %d", e.Inode, kind)
		}
		s.Entries = append(s.Entries, e)
		return nil
	})
	if err != nil {
		return s, err
	}
	for i := range s.Entries {
		if source, ok := elsewhere[s.Entries[i].Inode]; ok && s.Entries[i].Data == nil {
			if s.Entries[i].Data, err = fetch(d.w, source); err != nil {
				return s, fmt.Errorf("inode %d: %w", s.Entries[i].Inode, err)
			}
		}
	}
	if err := d.w.each("SELECT coalesce(max(id), 0) FROM base", nil, func(v []driver.Value) error {
		d.nextBase = int64(number(v[0]))
		return nil
	}); err != nil {
		return s, err
	}
	err = d.w.each("SELECT slot, id, idx, inode, code FROM recent ORDER BY slot", nil, func(v []driver.Value) error {
		s.Recent = append(s.Recent, tree.Remembered{Slot: uint32(number(v[0])), ID: number(v[1]), Index: number(v[2]), Inode: number(v[3]), Code: uint8(number(v[4]))})
		return nil
	})
	return s, err
}
