package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Unix(1_700_000_000, 0)} }

func TestTheNewestWordOfANodeWins(t *testing.T) {
	c := newClock()
	a, b := New("a", c.now), New("b", c.now)
	first, _ := a.Set(KV, "load", []byte("1"))
	second, _ := a.Set(KV, "load", []byte("2"))
	if news := b.Merge([]Value{second, first}); len(news) != 1 || string(news[0].Data) != "2" {
		t.Fatalf("news: %v", news)
	}
	if v, ok := b.Latest(KV, "load"); !ok || string(v.Data) != "2" || v.Node != "a" {
		t.Errorf("b believes %v", v)
	}
	gone, _ := a.Remove(KV, "load")
	b.Merge([]Value{gone})
	b.Merge([]Value{second})
	if v, ok := b.Latest(KV, "load"); ok {
		t.Errorf("a value that was taken back came again: %v", v)
	}
}

func TestARestartedNodeIsBelieved(t *testing.T) {
	c := newClock()
	b := New("b", c.now)
	old, _ := New("a", c.now).Set(KV, "load", []byte("old"))
	b.Merge([]Value{old})
	c.t = c.t.Add(time.Second)
	fresh, _ := New("a", c.now).Set(KV, "load", []byte("new"))
	b.Merge([]Value{fresh})
	if v, _ := b.Latest(KV, "load"); string(v.Data) != "new" {
		t.Errorf("after a restart: %q", v.Data)
	}
}

func TestValuesDieInTime(t *testing.T) {
	c := newClock()
	s := New("a", c.now)
	s.Set(RRD, "pve2-node/a", []byte("1:2"))
	s.Set(Document, "storage.cfg", []byte("state: applied\n"))
	c.t = c.t.Add(RRDLifetime + 2*time.Second)
	if l := s.List(RRD); len(l) != 0 {
		t.Errorf("samples live on: %v", l)
	}
	if l := s.List(Document); len(l) != 1 {
		t.Errorf("documents: %v", l)
	}
	s.DropNode("a")
	if l := s.Snapshot(); len(l) != 0 {
		t.Errorf("a dropped node still says %v", l)
	}
}

func TestValuesAreBounded(t *testing.T) {
	c := newClock()
	s := New("a", c.now)
	if _, err := s.Set(KV, "k", make([]byte, MaxValue+1)); !errors.Is(err, ErrTooBig) {
		t.Errorf("a value beyond the limit: %v", err)
	}
	if news := s.Merge([]Value{{Node: "b", Kind: KV, Key: "k", Data: make([]byte, MaxValue+1), Counter: 1, Expires: c.t.Unix() + 10}}); len(news) != 0 {
		t.Error("another node's value beyond the limit was taken")
	}
}

func TestTheLogIsARing(t *testing.T) {
	var l Log
	for i := range 1000 {
		l.Add(LogEntry{Time: int64(i), Priority: 6, Tag: "t", Node: "n", User: "root", Message: strings.Repeat("x", 1000)})
	}
	entries := l.Entries()
	total := 0
	for _, e := range entries {
		total += e.size()
	}
	if total > MaxLogBytes || len(entries) < 100 || entries[len(entries)-1].Time != 999 {
		t.Errorf("%d entries of %d bytes, last %d", len(entries), total, entries[len(entries)-1].Time)
	}
	l.Add(LogEntry{Time: 5000, Message: strings.Repeat("y", 2*MaxLogEntry)})
	if e := l.Entries(); e[len(e)-1].size() > MaxLogEntry {
		t.Error("an entry is longer than it may be")
	}
}

func TestLogsMergeToTheSame(t *testing.T) {
	var a, b Log
	for i := range 20 {
		a.Add(LogEntry{Time: int64(i), Node: "a", Message: fmt.Sprint(i)})
		b.Add(LogEntry{Time: int64(i), Node: "b", Message: fmt.Sprint(i)})
	}
	a.Merge(b.Entries())
	b.Merge(a.Entries())
	a.Merge(b.Entries())
	if got, want := fmt.Sprint(a.Entries()), fmt.Sprint(b.Entries()); got != want || len(a.Entries()) != 40 {
		t.Errorf("two logs differ after a merge:\n%s\n%s", got, want)
	}
}

func TestLogJSON(t *testing.T) {
	var l Log
	if got := string(l.JSON("")); got != "{\n\"data\": [\n]\n}\n" {
		t.Errorf("empty log: %q", got)
	}
	texts := []string{"plain", "quo\"te \\ back", "Grüße", "tab\tend\n", "\U0001F600", "bad \xff byte"}
	for i, text := range texts {
		l.Add(LogEntry{Time: int64(100 + i), Priority: 6, Tag: "cluster", PID: 7, Node: "n1", User: "root", Message: text})
	}
	l.Add(LogEntry{Time: 1, User: "other@pve", Message: "m"})
	var shown struct {
		Data []struct{ Msg, User string }
	}
	raw := l.JSON("root")
	if err := json.Unmarshal(raw, &shown); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	for i, want := range []string{"bad \ufffd byte", "\U0001F600", "tab\tend\n", "Grüße", "quo\"te \\ back", "plain"} {
		if shown.Data[i].Msg != want {
			t.Errorf("entry %d: %q; want %q", i, shown.Data[i].Msg, want)
		}
	}
	for _, c := range raw {
		if c > 0x7e {
			t.Fatalf("not ASCII: %s", raw)
		}
	}
}
