package tree

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
)

// script applies one-line commands: "write PATH [CONTENT]", "rename FROM TO",
// "mkdir|remove|rmdir|touch PATH".
type script struct {
	t     *testing.T
	tree  *Tree
	index uint64
}

func newScript(t *testing.T) *script { return &script{t: t, tree: New()} }

// do applies a line by writer 1 at time 1000.
func (s *script) do(line string) (Result, []Change) {
	return s.apply(parse(line))
}

func parse(line string) *command.Command {
	f := strings.SplitN(line, " ", 3)
	c := &command.Command{Node: "n1", Writer: 1, Time: 1000, Path: f[1]}
	for c.Op.String() != f[0] {
		c.Op++
	}
	if len(f) == 3 {
		if c.Op == command.Rename {
			c.To = f[2]
		} else {
			c.Data = []byte(f[2])
		}
	}
	return c
}

func (s *script) apply(c *command.Command) (Result, []Change) {
	s.index++
	x := s.tree.Begin()
	r, changes := x.Apply(s.index, c)
	x.Publish()
	return r, changes
}

// must applies lines that succeed.
func (s *script) must(lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		if r, _ := s.do(line); r.Err != nil {
			s.t.Fatalf("%s: %v", line, r.Err)
		}
	}
}

// refuse applies a line that fails and must not leave anything behind.
func (s *script) refuse(want error, c *command.Command) {
	s.t.Helper()
	before := s.tree.State()
	before.Index++
	r, changes := s.apply(c)
	if !errors.Is(r.Err, want) || r.Err == nil || len(changes) > 0 {
		s.t.Errorf("%v %s %s: %v with %d changes, want %v", c.Op, c.Path, c.To, r.Err, len(changes), want)
	}
	if !reflect.DeepEqual(s.tree.State(), before) {
		s.t.Errorf("%v %s %s: refused, but the tree has changed", c.Op, c.Path, c.To)
	}
}

// places are the directories and files that the table of refusals starts from.
var places = []string{
	"mkdir nodes", "mkdir nodes/a", "mkdir nodes/a/qemu-server", "mkdir nodes/a/lxc", "mkdir nodes/b", "mkdir nodes/b/qemu-server",
	"mkdir power", "mkdir priv", "mkdir priv/lock", "mkdir priv/lock/x", "mkdir priv/lock/full", "write priv/lock/full/f", "mkdir priv/lock/full/d", "write priv/lock/plain",
	"write nodes/a/qemu-server/100.conf one", "write nodes/b/qemu-server/101.conf two", "write power/100 running",
	"mkdir d", "mkdir d/e", "write d/f 1", "mkdir empty", "mkdir empty2", "write f1 1", "write f2 2",
}

func TestRefusals(t *testing.T) {
	for line, want := range map[string]error{
		"write nowhere/x":                    ErrNotExist,
		"write f1/x":                         ErrNotDir,
		"write d":                            ErrIsDir,
		"write d//b":                         ErrInvalid,
		"write ../x":                         ErrInvalid,
		"write d/.":                          ErrInvalid,
		"write " + strings.Repeat("x", 2000): ErrInvalid,
		"mkdir d":                            ErrExist,
		"mkdir f1":                           ErrExist,
		"mkdir a/b":                          ErrNotExist,
		"mkdir f1/b":                         ErrNotDir,
		"remove d":                           ErrIsDir,
		"remove none":                        ErrNotExist,
		"rmdir f1":                           ErrNotDir,
		"rmdir d":                            ErrNotEmpty,
		"rmdir none":                         ErrNotExist,
		"rename none x":                      ErrNotExist,
		"rename d x":                         ErrNotEmpty,
		"rename empty d":                     ErrNotEmpty,
		"rename empty f1":                    ErrNotDir,
		"rename empty empty/sub":             ErrInvalid,
		"rename f1 d":                        ErrIsDir,
		"rename f1 none/x":                   ErrNotExist,
		"rename f1 f2/x":                     ErrNotDir,
		"rename priv/lock/x priv/lock/y":     ErrAccess,
		"rename priv/lock/full elsewhere":    ErrAccess,
		"rename priv/lock/full/d d/x":        ErrAccess,
		"touch none":                         ErrNotExist,
		// A VMID is unique over nodes and kinds.
		"write nodes/a/lxc/100.conf":                                       ErrExist,
		"write nodes/b/qemu-server/100.conf":                               ErrExist,
		"rename f1 nodes/b/qemu-server/100.conf":                           ErrExist,
		"rename nodes/b/qemu-server/101.conf nodes/b/qemu-server/100.conf": ErrExist,
		// Power is for guests that exist.
		"write power/102 running": ErrNoGuest,
		"rename f1 power/102":     ErrNoGuest,
	} {
		s := newScript(t)
		s.must(places...)
		s.refuse(want, parse(line))
	}
}

func TestRefusalsThatNeedMoreThanALine(t *testing.T) {
	s := newScript(t)
	s.must(places...)
	f1, _ := s.tree.Lookup("f1")
	lock, _ := s.tree.Lookup("priv/lock/x")
	full, _ := s.tree.Lookup("priv/lock/full")
	plain, _ := s.tree.Lookup("priv/lock/plain")
	for want, list := range map[error][]command.Command{
		ErrExist:    {{Op: command.Write, Path: "f1", Exclusive: true}, {Op: command.Write, Path: "d", Exclusive: true}, {Op: command.Rename, Path: "f1", To: "f2", Exclusive: true}},
		ErrIsDir:    {{Op: command.Write, Path: "d", Replace: true}},
		ErrTooBig:   {{Op: command.Write, Path: "f1", Data: make([]byte, layout.MaxFile+1)}},
		ErrConflict: {{Op: command.Write, Path: "f1", Expect: f1.Version + 1}, {Op: command.Write, Path: "new", Expect: 1}, {Op: command.Remove, Path: "f1", Expect: f1.Version - 1}},
		ErrAccess: {
			{Op: command.Touch, Path: "priv/lock/x", Writer: 2, Time: 2000},
			{Op: command.Touch, Path: "priv/lock/x", Writer: 1, Time: 999},
			{Op: command.Touch, Path: "priv/lock/x", Writer: 1, Time: 0},
			{Op: command.Unlock, Path: "priv/lock/x", Expect: lock.Version - 1},
			{Op: command.Unlock, Path: "priv/lock/x"},
			{Op: command.Unlock, Path: "priv/lock/plain", Expect: plain.Version},
			{Op: command.Rmdir, Path: ""},
			{Op: command.Write, Path: ""},
		},
		ErrNotEmpty: {{Op: command.Unlock, Path: "priv/lock/full", Expect: full.Version}},
		ErrNotExist: {{Op: command.Unlock, Path: "priv/lock/none", Expect: 1}},
		ErrInvalid:  {{Op: 200, Path: "f1"}},
	} {
		for _, c := range list {
			s.refuse(want, &c)
		}
	}
}

func TestEffects(t *testing.T) {
	s := newScript(t)
	s.must(places...)
	r, changes := s.do("rename f1 f2")
	f2, _ := s.tree.Lookup("f2")
	if r.Inode != f2.Inode || string(f2.Data) != "1" || len(changes) != 1 || changes[0].Kind != Renamed || changes[0].From != "f1" || changes[0].Replaced == 0 {
		t.Errorf("renamed over a file: %+v %+v", f2, changes)
	}
	if _, ok := s.tree.Lookup("f1"); ok {
		t.Error("f1 is still there")
	}
	version := s.tree.Version()
	if r, changes := s.do("rename f2 f2"); r.Err != nil || len(changes) > 0 || s.tree.Version() != version {
		t.Errorf("renaming a file to itself: %v, %d changes", r.Err, len(changes))
	}
	s.must("rename empty empty2", "write f2 changed", "touch priv/lock/x", "touch d")
	again, _ := s.tree.Lookup("f2")
	if again.Inode != f2.Inode || again.Version <= f2.Version {
		t.Errorf("an overwritten file is %+v, was %+v", again, f2)
	}
	fresh, _ := s.do("write new x")
	if fresh.Inode != s.tree.Version() {
		t.Errorf("inode %d at version %d", fresh.Inode, s.tree.Version())
	}
}

func TestADirectoryKnowsItsContent(t *testing.T) {
	s := newScript(t)
	s.must("mkdir d", "mkdir d/a", "write d/f")
	late := parse("write d/g")
	late.Time = 5000
	s.apply(late)
	if d, _ := s.tree.Lookup("d"); d.Children != 3 || d.Dirs != 1 || d.Mtime != 5000 {
		t.Errorf("d is %+v", d)
	}
	s.must("rmdir d/a", "remove d/f", "rename d/g g")
	if d, _ := s.tree.Lookup("d"); d.Children != 0 || d.Dirs != 0 {
		t.Errorf("d is %+v", d)
	}
}

func TestPowerGoesWithItsGuest(t *testing.T) {
	s := newScript(t)
	s.must(places...)
	s.must("rename nodes/a/qemu-server/100.conf nodes/b/qemu-server/100.conf")
	if e, _ := s.tree.Lookup("power/100"); string(e.Data) != "running" {
		t.Error("a guest that moved has lost its power file")
	}
	s.must("rename nodes/b/qemu-server/100.conf nodes/b/qemu-server/200.conf")
	if e, _ := s.tree.Lookup("power/200"); string(e.Data) != "running" {
		t.Error("a guest with a new VMID has lost its power file")
	}
	_, changes := s.do("remove nodes/b/qemu-server/200.conf")
	if _, ok := s.tree.Lookup("power/200"); ok || len(changes) != 2 || changes[1].Path != "power/200" || changes[1].Kind != Removed {
		t.Errorf("a guest that was removed: %+v", changes)
	}
	if dir, _ := s.tree.Lookup("power"); dir.Children != 0 {
		t.Errorf("power has %d entries", dir.Children)
	}
}

func TestTheListOfGuestsFollows(t *testing.T) {
	s := newScript(t)
	s.must(places...)
	v1, list := s.tree.Guests()
	if len(list) != 2 || list[0].Path() != "nodes/a/qemu-server/100.conf" {
		t.Fatalf("guests %+v", list)
	}
	s.must("rename nodes/a/qemu-server/100.conf nodes/a/lxc/100.conf", "write nodes/a/lxc/0100.conf")
	v2, list := s.tree.Guests()
	if g, ok := s.tree.Guest(100); !ok || g.Kind != layout.LXC || v2 <= v1 || len(list) != 2 || g.Version <= list[1].Version {
		t.Errorf("guests %+v at %d, before %d", list, v2, v1)
	}
	s.must("rename nodes/a/lxc/100.conf saved")
	if _, ok := s.tree.Guest(100); ok {
		t.Error("guest 100 is still listed")
	}
	s.must("write nodes/b/qemu-server/100.conf")
}

func TestCountersRiseWithEachChange(t *testing.T) {
	s := newScript(t)
	if list := s.tree.Counters(); len(list) != 43 || list[0] != (Counter{"corosync.conf", 0}) || list[42].Path != "mapping/usb.cfg" {
		t.Errorf("counters of an empty tree: %+v", list)
	}
	s.must("write user.cfg x", "write user.cfg x", "mkdir nodes", "mkdir nodes/a", "write nodes/a/host.fw", "rename user.cfg storage.cfg")
	got := map[string]uint64{}
	for _, c := range s.tree.Counters() {
		got[c.Path] = c.N
	}
	if got["user.cfg"] != 3 || got["storage.cfg"] != 1 || got["nodes/a/host.fw"] != 1 {
		t.Errorf("counters %v", got)
	}
}

func TestLimits(t *testing.T) {
	s := newScript(t)
	full := make([]byte, layout.MaxFile)
	for i := range layout.MaxTotal / layout.MaxFile {
		if r, _ := s.apply(&command.Command{Op: command.Write, Path: string(rune('a' + i)), Data: full}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	s.refuse(ErrNoSpace, parse("write new 1"))
	s.must("write zero")
	s.must("write a small") // shrinks
	s.must("write zero 1")
	if used, n := s.tree.Usage(); used != layout.MaxTotal-layout.MaxFile+len("small")+1 || n != 31 {
		t.Errorf("%d bytes in %d entries", used, n)
	}
}

func TestReadersSeeNothingBeforePublish(t *testing.T) {
	s := newScript(t)
	s.must("write a 1")
	x := s.tree.Begin()
	x.Apply(2, parse("write a 2"))
	x.Apply(3, parse("write b 2"))
	x.Apply(4, parse("mkdir d"))
	if r, _ := x.Apply(5, parse("write d/a 2")); r.Err != nil {
		t.Errorf("a command does not see the one before it: %v", r.Err)
	}
	if a, _ := s.tree.Lookup("a"); string(a.Data) != "1" || len(s.tree.List(Root)) != 1 || s.tree.Index() != 1 {
		t.Error("readers see what is not published")
	}
	x.Publish()
	if list := s.tree.List(Root); len(list) != 3 || list[0].Name != "a" || s.tree.Index() != 5 {
		t.Errorf("after Publish: %+v", list)
	}
}

func TestRepeatedCommandsCountOnce(t *testing.T) {
	s := newScript(t)
	c := &command.Command{ID: 7, Op: command.Write, Path: "a", Exclusive: true}
	first, _ := s.apply(c)
	again, changes := s.apply(c)
	if first.Err != nil || again != first || changes != nil {
		t.Errorf("%+v, then %+v", first, again)
	}
	restored := New()
	if _, err := restored.Restore(s.tree.State()); err != nil {
		t.Fatal(err)
	}
	if r, _ := restored.Begin().Apply(99, c); r != first {
		t.Errorf("restored tree answers %+v", r)
	}
	for id := uint64(100); id < 100+maxRecent; id++ {
		s.apply(&command.Command{ID: id, Op: command.Noop})
	}
	if r, _ := s.apply(c); !errors.Is(r.Err, ErrExist) {
		t.Errorf("command 7 is remembered for ever: %+v", r)
	}
}

func TestLocksExpireByThisNodesClock(t *testing.T) {
	s := newScript(t)
	s.must("mkdir priv", "mkdir priv/lock", "mkdir priv/lock/a")
	now := time.Duration(0)
	l := NewLocks(s.tree, func() time.Duration { return now })
	now = 119 * time.Second
	if _, expired := l.Expired("priv/lock/a"); expired {
		t.Error("expired after 119 s")
	}
	_, changes := s.do("touch priv/lock/a")
	l.Note(changes)
	now += 119 * time.Second
	if _, expired := l.Expired("priv/lock/a"); expired {
		t.Error("a renewed lock expired")
	}
	now += time.Second
	version, expired := l.Expired("priv/lock/a")
	if !expired {
		t.Fatal("not expired after 120 s")
	}
	if r, _ := s.apply(&command.Command{Op: command.Unlock, Path: "priv/lock/a", Expect: version, Writer: 9}); r.Err != nil {
		t.Errorf("unlock: %v", r.Err)
	}
	if _, expired := l.Expired("priv/lock/a"); expired {
		t.Error("a lock that is gone is expired")
	}
}

func TestStateSurvivesEncoding(t *testing.T) {
	s := newScript(t)
	s.must(places...)
	s.apply(&command.Command{ID: 1 << 63, Op: command.Noop})
	want := s.tree.State()
	got, err := UnmarshalState(want.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	restored := New()
	if _, err := restored.Restore(got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.State().Marshal(), want.Marshal()) {
		t.Error("the state has changed on the way")
	}
}

func TestRestoreRefusesWhatNoTreeCanBe(t *testing.T) {
	dir := func(inode, parent uint64, name string) Entry {
		return Entry{Inode: inode, Parent: parent, Name: name, Dir: true}
	}
	file := func(inode, parent uint64, name string) Entry { return Entry{Inode: inode, Parent: parent, Name: name} }
	nodes := []Entry{dir(1, 0, "nodes"), dir(2, 1, "a"), dir(3, 2, "lxc"), dir(4, 2, "qemu-server")}
	for name, entries := range map[string][]Entry{
		"orphan":        {file(1, 9, "x")},
		"cycle":         {dir(1, 2, "a"), dir(2, 1, "b")},
		"same inode":    {file(1, 0, "a"), file(1, 0, "b")},
		"same name":     {file(1, 0, "a"), file(2, 0, "a")},
		"file as dir":   {file(1, 0, "a"), file(2, 1, "b")},
		"slash":         {file(1, 0, "a/b")},
		"no name":       {file(1, 0, "")},
		"two of a VMID": append(nodes, file(5, 3, "100.conf"), file(6, 4, "100.conf")),
	} {
		s := newScript(t)
		s.must("write kept")
		if _, err := s.tree.Restore(State{Entries: entries}); err == nil {
			t.Errorf("%s: restored", name)
		}
		if _, ok := s.tree.Lookup("kept"); !ok {
			t.Errorf("%s: the old tree is gone", name)
		}
	}
}

func FuzzUnmarshalState(f *testing.F) {
	f.Add(New().State().Marshal())
	f.Add(State{Entries: []Entry{{Inode: 1, Name: "a", Data: []byte("x")}}, Recent: []Remembered{{ID: 5}}}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := UnmarshalState(b); err == nil {
			_, _ = New().Restore(s)
		}
	})
}
