package database

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/tree"
)

// bench applies commands to a database as a consensus of one would.
type bench struct {
	t    *testing.T
	path string
	opt  Options
	d    *Database
	tree *tree.Tree
	now  time.Time
}

func newBench(t *testing.T, opt Options) *bench {
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "config.db"), opt: opt, now: time.Unix(1_000_000, 0)}
	b.opt.Now = func() time.Time { return b.now }
	b.open()
	b.check(b.d.Bootstrap([]byte("members")))
	t.Cleanup(func() { b.d.Abandon() })
	return b
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	b.tree = tree.New()
	b.d, err = Open(b.path, b.tree, b.opt)
	b.check(err)
	r := b.d.Recovered()
	if r.Last > r.Applied {
		entries, err := b.d.Entries(r.Applied+1, r.Last+1, 1<<30)
		b.check(err)
		_, _, err = b.d.Apply(entries, nil)
		b.check(err)
	}
}

// reopen crashes and starts anew.
func (b *bench) reopen() {
	b.t.Helper()
	b.check(b.d.Abandon())
	b.open()
}

// run commits commands in one entry each and returns the last index.
func (b *bench) run(list ...command.Command) uint64 {
	b.t.Helper()
	var entries []command.Entry
	last := b.d.Recovered().Last
	for _, c := range list {
		last++
		c.Node, c.UID = "n1", 33
		if c.Time == 0 {
			c.Time = b.now.Unix()
		}
		entries = append(entries, command.Entry{Index: last, Term: 2, Data: c.Marshal()})
	}
	b.check(b.d.Append(command.HardState{Term: 2, Vote: 1, Commit: last}, entries))
	results, _, err := b.d.Apply(entries, nil)
	b.check(err)
	for i, r := range results {
		if r.Err != nil {
			b.t.Fatalf("%v %s: %v", list[i].Op, list[i].Path, r.Err)
		}
	}
	return last
}

func (b *bench) save(path, content string) uint64 {
	b.t.Helper()
	return b.run(command.Command{Op: command.Write, Path: path, Data: []byte(content)})
}

func (b *bench) content(path string, index uint64) string {
	b.t.Helper()
	data, err := b.d.Content(b.t.Context(), path, index)
	b.check(err)
	return string(data)
}

func TestHistoryKeepsEveryVersion(t *testing.T) {
	b := newBench(t, Options{})
	b.run(command.Command{Op: command.Mkdir, Path: "d"})
	first := b.save("d/a", "one")
	second := b.save("d/a", "two")
	moved := b.run(command.Command{Op: command.Rename, Path: "d/a", To: "d/b"})
	over := b.save("d/b", "three")
	b.save("c", "taken over")
	onto := b.run(command.Command{Op: command.Rename, Path: "c", To: "d/b"})
	gone := b.run(command.Command{Op: command.Remove, Path: "d/b"})
	for range 2 { // as it happened, and after a crash
		if got := b.content("d/a", first) + b.content("d/a", second) + b.content("d/b", moved) + b.content("d/b", over) + b.content("d/b", onto); got != "onetwotwothreetaken over" {
			t.Errorf("contents %q", got)
		}
		list, err := b.d.Revisions(t.Context(), "d/b")
		b.check(err)
		var events []string
		for _, r := range list {
			events = append(events, fmt.Sprint(r.Index, r.Bytes, r.Removed, r.Node, r.UID))
		}
		want := []string{fmt.Sprint(moved, 3, false, "n1", 33), fmt.Sprint(over, 5, false, "n1", 33), fmt.Sprint(onto, 10, false, "n1", 33), fmt.Sprint(gone, 0, true, "n1", 33)}
		if !reflect.DeepEqual(events, want) {
			t.Errorf("revisions %q, want %q", events, want)
		}
		if _, err := b.d.Content(t.Context(), "d/b", gone); !errors.Is(err, ErrNoRevision) {
			t.Errorf("content of a removed file: %v", err)
		}
		root, err := b.d.Names(t.Context(), "")
		b.check(err)
		inside, err := b.d.Names(t.Context(), "d")
		b.check(err)
		if !reflect.DeepEqual(root, []Name{{"c", false}, {"d", true}}) || !reflect.DeepEqual(inside, []Name{{"a", false}, {"b", false}}) {
			t.Errorf("names %v and %v", root, inside)
		}
		b.reopen()
	}
}

func TestTrimmingKeepsTheTreeAndItsNextVersion(t *testing.T) {
	b := newBench(t, Options{})
	big := strings.Repeat(fmt.Sprint(rand.Uint64()), 3000)
	b.save("big", big)
	b.save("small", "old")
	for i := range 30 {
		b.save("busy", fmt.Sprint("version ", i))
	}
	b.now = b.now.Add(100 * 24 * time.Hour)
	kept := b.save("busy", "recent")
	b.check(b.d.trim())
	if r := b.d.Recovered(); r.Base != kept-1 {
		t.Errorf("the log begins after %d, want %d", r.Base, kept-1)
	}
	next := b.save("big", "overwritten after its row was trimmed")
	for range 2 {
		if e, _ := b.tree.Lookup("small"); string(e.Data) != "old" {
			t.Errorf("small is %q", e.Data)
		}
		if got := b.content("big", 0); got != big {
			t.Errorf("the version before %d has %d bytes, want %d", next, len(got), len(big))
		}
		list, err := b.d.Revisions(t.Context(), "busy")
		if err != nil || len(list) != 1 || list[0].Index != kept {
			t.Errorf("revisions %+v, %v", list, err)
		}
		b.reopen()
	}
}

func TestTheHistoryStaysWithinItsBudget(t *testing.T) {
	b := newBench(t, Options{HistoryBytes: 100_000})
	noise := make([]byte, 5000)
	for i := range 60 {
		for k := range noise {
			noise[k] = byte(rand.Uint32())
		}
		b.save(fmt.Sprint("f", i%3), string(noise))
	}
	b.check(b.d.trim())
	if n := b.d.logged.bytes; n > 100_000 || n < 80_000 {
		t.Errorf("%d bytes are left", n)
	}
	b.reopen()
	if e, _ := b.tree.Lookup("f2"); !bytes.Equal(e.Data, noise) {
		t.Error("the newest content is damaged")
	}
}

func TestConflictingEntriesAreReplaced(t *testing.T) {
	b := newBench(t, Options{})
	last := b.d.Recovered().Last
	write := func(name string) []byte {
		return (&command.Command{Op: command.Write, Path: name}).Marshal()
	}
	b.check(b.d.Append(command.HardState{Term: 2}, []command.Entry{{Index: last + 1, Term: 2, Data: write("a")}, {Index: last + 2, Term: 2, Data: write("b")}}))
	b.check(b.d.Append(command.HardState{Term: 3}, []command.Entry{{Index: last + 1, Term: 3, Data: write("c")}}))
	b.reopen()
	r := b.d.Recovered()
	if term, err := b.d.Term(last + 1); err != nil || term != 3 || r.Last != last+1 || r.HardState.Term != 3 {
		t.Errorf("term %d, %v; recovered %+v", term, err, r)
	}
	if _, ok := b.tree.Lookup("c"); !ok || b.tree.Index() != last+1 {
		t.Error("the entry that won was not applied")
	}
	if _, err := b.d.Term(last + 2); !errors.Is(err, ErrMissing) {
		t.Errorf("term of an entry that was replaced: %v", err)
	}
}

func TestASnapshotReplacesTheTree(t *testing.T) {
	from, to := newBench(t, Options{}), newBench(t, Options{})
	from.save("a", strings.Repeat("content ", 2000))
	from.save("b", "")
	to.save("other", "goes")
	s, err := from.d.Snapshot()
	from.check(err)
	s.Index += 100
	_, err = to.d.Install(s)
	to.check(err)
	for range 2 {
		if to.tree.Index() != s.Index || to.d.Recovered().Base != s.Index || len(to.tree.List(tree.Root)) != 2 {
			t.Errorf("at %d after %d: %+v", to.tree.Index(), to.d.Recovered().Base, to.tree.List(tree.Root))
		}
		if e, _ := to.tree.Lookup("a"); len(e.Data) != 16000 {
			t.Errorf("a has %d bytes", len(e.Data))
		}
		to.reopen()
	}
	if got := to.save("a", "goes on"); got != s.Index+1 {
		t.Errorf("the next entry is %d", got)
	}
}

func TestWhatAnotherDaemonHasChangedIsKept(t *testing.T) {
	b := newBench(t, Options{})
	big := strings.Repeat("large ", 5000)
	b.save("big", big)
	b.save("a", "ours")
	b.check(b.d.Flush(t.Context()))
	applied := b.d.Recovered().Applied
	b.check(b.d.w.script("UPDATE tree SET data = 'theirs', version = 9 WHERE name = 'a'; UPDATE tree SET version = 9 WHERE inode = 0"))
	for range 2 {
		b.reopen()
		for name, want := range map[string]string{"a": "theirs", "big": big} {
			if e, _ := b.tree.Lookup(name); string(e.Data) != want {
				t.Errorf("%s has %d bytes, want %d", name, len(e.Data), len(want))
			}
		}
		if r := b.d.Recovered(); r.Base != applied || b.tree.Version() != 9 {
			t.Errorf("the log begins after %d, want %d; version %d", r.Base, applied, b.tree.Version())
		}
	}
}

// TestOneErrorEndsTheDatabase breaks the connection below the database.
func TestOneErrorEndsTheDatabase(t *testing.T) {
	b := newBench(t, Options{})
	b.save("a", "1")
	b.check(b.d.w.script("DROP TABLE log"))
	entry := command.Entry{Index: b.d.Recovered().Last + 1, Term: 2, Data: (&command.Command{Op: command.Noop}).Marshal()}
	if err := b.d.Append(command.HardState{Term: 2}, []command.Entry{entry}); err == nil {
		t.Fatal("an entry was appended to nothing")
	}
	select {
	case <-b.d.Failed():
	default:
		t.Error("the failure is not reported")
	}
	for name, err := range map[string]error{
		"append": b.d.Append(command.HardState{Term: 9}, nil),
		"flush":  b.d.Flush(context.Background()),
		"run":    b.d.Run(t.Context()),
	} {
		if err == nil || !errors.Is(err, b.d.Err()) {
			t.Errorf("%s after the failure: %v", name, err)
		}
	}
}

func TestAFullDiskRefusesSaves(t *testing.T) {
	b := newBench(t, Options{})
	b.check(b.d.Room())
	b.d.path = "/proc" // has no blocks at all
	if err := b.d.Room(); !errors.Is(err, tree.ErrNoSpace) {
		t.Errorf("room on a full disk: %v", err)
	}
}
