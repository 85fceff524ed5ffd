package local

import (
	"errors"
	"testing"
	"time"

	"etcpve/cfs/tree"
)

const first = 1000

func grow(n int) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) { return append(old, make([]byte, n)...), nil }
}

func TestMemoryIsBounded(t *testing.T) {
	s := New(first)
	var full error
	for i := uint64(0); full == nil && i < 100; i++ {
		f, err := s.Create(Place{Parent: i, Name: "a~"}, Temporary, 1)
		if err != nil {
			t.Fatal(err)
		}
		full = s.Edit(f, 1, grow(1<<20))
	}
	if !errors.Is(full, tree.ErrNoSpace) || s.bytes > maxLocalBytes {
		t.Errorf("%v with %d bytes", full, s.bytes)
	}
	for i := range uint64(100) {
		s.Unlink(Place{Parent: i, Name: "a~"})
	}
	if s.bytes != 0 {
		t.Errorf("%d bytes are counted for nothing", s.bytes)
	}
	var many error
	for i := uint64(0); many == nil && i <= maxLocalFiles; i++ {
		_, many = s.Create(Place{Parent: i, Name: "a~"}, Temporary, 1)
	}
	if !errors.Is(many, tree.ErrNoSpace) {
		t.Errorf("too many files: %v", many)
	}
}

func TestAFileThatNobodyReachesIsDropped(t *testing.T) {
	s := New(first)
	at := Place{Name: "a~"}
	f, _ := s.Create(at, Temporary, 1)
	s.Release(f)
	s.Forget(f.ID, 1)
	if _, _, ok := s.Get(f.ID); !ok {
		t.Error("a temporary lives as long as it has a name")
	}
	s.Unlink(at)
	if _, _, ok := s.Get(f.ID); ok {
		t.Error("an unlinked file stays")
	}
	p, _ := s.Create(at, Pending, 1)
	if !s.IsUnsettled(at) {
		t.Error("a file that is being written is not noticed")
	}
	s.Become(p, 7)
	if _, inode, ok := s.Get(p.ID); !ok || inode != 7 {
		t.Errorf("a file that has become an entry: %d %v", inode, ok)
	}
	s.Release(p)
	s.Forget(p.ID, 1)
	if _, _, ok := s.Get(p.ID); ok || s.IsUnsettled(at) {
		t.Error("a file that has become an entry stays")
	}
}

func TestEditingWhatHasBecomeAnEntry(t *testing.T) {
	s := New(first)
	f, _ := s.Create(Place{Name: "a~"}, Temporary, 1)
	s.Become(f, 7)
	if err := s.Edit(f, 1, grow(1)); !errors.Is(err, ErrBecame) {
		t.Errorf("edit: %v", err)
	}
}

func TestDeparturesAreDueInTime(t *testing.T) {
	s := New(first)
	now := time.Unix(100, 0)
	from, to := Place{Name: "a"}, Place{Name: "a~"}
	if err := s.Depart(from, Departure{Path: "a", Due: now.Add(Grace)}, to, tree.Entry{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, hidden := s.List(0); !hidden["a"] || !s.Has(to) {
		t.Error("the file is not hidden, or has no backup")
	}
	overdue := func(now time.Time) map[Place]Departure {
		return s.Departed(func(_ Place, d Departure) bool { return !now.Before(d.Due) })
	}
	if n := len(overdue(now)); n != 0 {
		t.Errorf("%d are due at once", n)
	}
	if n := len(overdue(now.Add(Grace))); n != 1 {
		t.Errorf("%d are due in time", n)
	}
	if _, ok := s.Arrive(from); !ok || s.IsDeparted(from) {
		t.Error("it did not arrive")
	}
}
