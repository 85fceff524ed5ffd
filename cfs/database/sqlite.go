package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// conn is one connection with its prepared statements. It belongs to one
// goroutine at a time. It speaks to the driver itself: a save is one insert, and
// database/sql would spend more on it than SQLite.
type conn struct {
	raw   *sqlite3.SQLiteConn
	stmts map[string]*sqlite3.SQLiteStmt
}

func connect(path, options string) (*conn, error) {
	name := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options}).String()
	c, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, err
	}
	return &conn{raw: c.(*sqlite3.SQLiteConn), stmts: map[string]*sqlite3.SQLiteStmt{}}, nil
}

// pageSize is small because every sync of the write-ahead log rewrites the last
// page of the log's table: with SQLite's usual 4 KiB a save of 100 bytes dirties
// two blocks of the disk, with this one mostly one.
const pageSize = 512

// paged sets the size of pages, which for a database that was written by another
// daemon means to rewrite it, and turns the write-ahead log on.
func (c *conn) paged() error {
	size := int64(0)
	if err := c.each("PRAGMA page_size", nil, func(v []driver.Value) error {
		size = v[0].(int64)
		return nil
	}); err != nil {
		return err
	}
	if size != pageSize {
		if err := c.script(fmt.Sprintf("PRAGMA journal_mode=DELETE; PRAGMA page_size=%d; VACUUM", pageSize)); err != nil {
			return err
		}
	}
	return c.script("PRAGMA journal_mode=WAL")
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	return c.raw.Close()
}

func (c *conn) prepare(query string) (*sqlite3.SQLiteStmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s.(*sqlite3.SQLiteStmt)
	return c.stmts[query], nil
}

// exec runs a statement. SQLite's integers are signed, so are ours on disk.
func (c *conn) exec(query string, args ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.Exec(args)
	return err
}

// script runs statements that are not worth preparing.
func (c *conn) script(query string) error {
	_, err := c.raw.Exec(query, nil)
	return err
}

// each calls row with every row of a query; the values are valid during the call.
func (c *conn) each(query string, args []driver.Value, row func(v []driver.Value) error) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args)
	if err != nil {
		return err
	}
	defer rows.Close()
	v := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := row(v); err != nil {
			return err
		}
	}
}

// transaction runs do in one transaction, which is on disk when it returns nil.
func (c *conn) transaction(do func() error) error {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil {
		return errors.Join(err, c.rollback())
	}
	return nil
}

// rollback ends what SQLite has not ended by itself.
func (c *conn) rollback() error {
	if c.raw.AutoCommit() {
		return nil
	}
	return c.exec("ROLLBACK")
}

func number(v driver.Value) uint64 {
	n, _ := v.(int64)
	return uint64(n)
}

func text(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// blob returns a copy, because the driver may reuse its own.
func blob(v driver.Value) []byte {
	switch v := v.(type) {
	case []byte:
		return append([]byte(nil), v...)
	case string:
		return []byte(v)
	}
	return nil
}

// errShape is the cause when a file is SQLite's but not ours.
var errShape = errors.New("not a database of this file system")

func shape(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errShape, fmt.Sprintf(format, args...))
}
