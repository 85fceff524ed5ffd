package main

import (
	"context"
	"errors"
	"sync"

	"etcpve/cfs/database"
	"etcpve/cfs/mount"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/tree"
)

// feed passes applied changes on to those who are there to hear of them: the
// order of changes starts before the mount does.
type feed struct {
	mu    sync.Mutex // guards what follows
	notes []func([]tree.Change)
	renew []func()
}

func (f *feed) note(do func([]tree.Change)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, do)
}

// anew has do called when the whole tree was replaced.
func (f *feed) anew(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renew = append(f.renew, do)
}

func (f *feed) subscribe(m *mount.Mount) {
	f.note(m.Applied)
	f.anew(m.Replaced)
}

func (f *feed) put(changes []tree.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, do := range f.notes {
		do(changes)
	}
}

func (f *feed) replace() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, do := range f.renew {
		do()
	}
}

// past is the database's history as the mount shows it.
type past struct{ db *database.Database }

// Versions returns what happened to the file at path.
func (p past) Versions(path string) ([]virtual.Version, error) {
	revisions, err := p.db.Revisions(context.Background(), path)
	versions := make([]virtual.Version, len(revisions))
	for i, r := range revisions {
		versions[i] = virtual.Version{Index: r.Index, Time: r.Time, Node: r.Node, UID: r.UID, Size: r.Bytes, Removed: r.Removed}
	}
	return versions, err
}

// Content returns one version.
func (p past) Content(path string, index uint64) ([]byte, error) {
	content, err := p.db.Content(context.Background(), path, index)
	if errors.Is(err, database.ErrNoRevision) {
		err = virtual.ErrNotExist
	}
	return content, err
}

// Names returns what is kept in a directory.
func (p past) Names(dir string) ([]virtual.Item, error) {
	names, err := p.db.Names(context.Background(), dir)
	items := make([]virtual.Item, len(names))
	for i, n := range names {
		items[i] = virtual.Item{Name: n.Name, Dir: n.Dir}
	}
	return items, err
}
