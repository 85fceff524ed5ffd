package spread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"etcpve/cfs/status"
)

// A node of a test: its store, its log and its part.
type node struct {
	store *status.Store
	log   *status.Log
	part  *Spreader
	dead  map[string]bool // whom it knows not to answer
}

// A town is some nodes that can ask each other.
type town map[string]*node

func (t town) add(name string) *node {
	n := &node{store: status.New(name, time.Now), log: &status.Log{}, dead: map[string]bool{}}
	n.part = New(name, n.store, n.log, func(node string) bool { return !n.dead[node] }, func(_ context.Context, peer string, body []byte) ([]byte, error) {
		return t[peer].part.Answer(body)
	}, slog.New(slog.DiscardHandler))
	t[name] = n
	return n
}

// heard is a gossip that reaches one node at once, up to limit bytes.
type heard struct {
	part  *Spreader
	limit int
}

func (h heard) Spread(_ string, body []byte) error {
	if len(body) > h.limit {
		return errors.New("too large")
	}
	h.part.News(body)
	return nil
}

// catchUp lets a node ask for all it knows to lack.
func (n *node) catchUp(t *testing.T) {
	t.Helper()
	for len(n.part.lacks) > 0 {
		if _, err := n.part.fetch(t.Context(), <-n.part.lacks); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) set(t *testing.T, key string, data []byte) status.Value {
	t.Helper()
	v, err := n.store.Set(status.KV, key, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSmallValuesTravelAsNewsLargeOnesAreFetched(t *testing.T) {
	for _, size := range []int{0, 10, 5000, status.MaxValue} {
		nodes := town{}
		a, b := nodes.add("a"), nodes.add("b")
		data := bytes.Repeat([]byte("x"), size)
		a.part.Value(heard{b.part, 1200}, a.set(t, "load", data))
		b.catchUp(t)
		if v, ok := b.store.Latest(status.KV, "load"); !ok || !bytes.Equal(v.Data, data) || v.Node != "a" {
			t.Errorf("%d bytes: b has %d, %v", size, len(v.Data), ok)
		}
		a.part.Value(heard{b.part, 1200}, a.set(t, "load", nil))
		if v, ok := b.store.Latest(status.KV, "load"); ok {
			t.Errorf("taken back, but b has %v", v)
		}
	}
}

func TestANewcomerLearnsEverythingFromOneNode(t *testing.T) {
	nodes := town{}
	a, b := nodes.add("a"), nodes.add("b")
	for i := range 500 {
		b.store.Merge([]status.Value{a.set(t, fmt.Sprint("key", i), []byte("value"))})
	}
	b.log.Add(status.LogEntry{Node: "b", Message: "hello", Time: 5})
	c := nodes.add("c")
	c.part.Merge(b.part.State())
	c.catchUp(t)
	if got, want := c.store.Snapshot(), a.store.Snapshot(); !reflect.DeepEqual(got, want) {
		t.Errorf("c knows %d values, a said %d", len(got), len(want))
	}
	if len(c.log.Entries()) != 1 {
		t.Errorf("log of c: %v", c.log.Entries())
	}
	c.part.Merge(b.part.State())
	if len(c.part.lacks) != 0 {
		t.Error("nodes that know the same ask each other")
	}
}

func TestNobodySpeaksForAnother(t *testing.T) {
	nodes := town{}
	a, b := nodes.add("a"), nodes.add("b")
	mine := a.set(t, "load", []byte("mine"))
	forged := mine
	forged.Counter, forged.Data = mine.Counter+1000, []byte("forged")
	b.store.Merge([]status.Value{forged})
	w := writer{b: []byte{aValue}}
	w.value(forged)
	a.part.News(w.b)
	a.part.Merge(b.part.State())
	a.catchUp(t)
	if v, _ := a.store.Latest(status.KV, "load"); string(v.Data) != "mine" {
		t.Errorf("a says %q of itself", v.Data)
	}
}

// TestNewsIsNewsOnce keeps nodes from passing things on for ever, and an old
// message that is sent again from having any effect.
func TestNewsIsNewsOnce(t *testing.T) {
	nodes := town{}
	a, b := nodes.add("a"), nodes.add("b")
	old, now := writer{b: []byte{aValue}}, writer{b: []byte{aValue}}
	old.value(a.set(t, "load", []byte("old")))
	now.value(a.set(t, "load", []byte("now")))
	entry := writer{b: []byte{anEntry}}
	entry.entry(a.log.Add(status.LogEntry{Node: "a", Time: 1, Message: "m"}))
	for i, body := range [][]byte{now.b, now.b, old.b, entry.b, entry.b} {
		if _, news := b.part.News(body); news != (i == 0 || i == 3) {
			t.Errorf("message %d: news %v", i, news)
		}
	}
	if v, _ := b.store.Latest(status.KV, "load"); string(v.Data) != "now" || len(b.log.Entries()) != 1 {
		t.Errorf("b has %q and %v", v.Data, b.log.Entries())
	}
}

func TestLogEntriesTravel(t *testing.T) {
	nodes := town{}
	a, b := nodes.add("a"), nodes.add("b")
	for _, size := range []int{10, 3000} {
		e := a.log.Add(status.LogEntry{Node: "a", Time: int64(size), Tag: "t", User: "root@pam", Priority: 6, PID: 7, Message: string(bytes.Repeat([]byte("m"), size))})
		a.part.Entry(heard{b.part, 1200}, e)
		b.catchUp(t)
	}
	if got, want := b.log.Entries(), a.log.Entries(); !reflect.DeepEqual(got, want) {
		t.Errorf("b has %v", got)
	}
}

func FuzzMessages(f *testing.F) {
	nodes := town{}
	a := nodes.add("a")
	v, err := a.store.Set(status.KV, "k", []byte("v"))
	if err != nil {
		f.Fatal(err)
	}
	w := writer{b: []byte{aValue}}
	w.value(v)
	f.Add(w.b)
	f.Add(a.part.State())
	f.Add(encode([]status.Value{v}, []status.LogEntry{{Node: "a"}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := town{}.add("z")
		n.part.News(body)
		n.part.Merge(body)
		if _, err := n.part.Answer(body); err != nil && !errors.Is(err, errMalformed) {
			t.Error(err)
		}
		if values, entries, err := decode(body); err == nil {
			n.store.Merge(values)
			n.log.Merge(entries)
		}
	})
}

// TestTheDeadSayNothing repeats to a node what another one said that is dead by now, and
// what it has taken back; when it is back, it is asked.
func TestTheDeadSayNothing(t *testing.T) {
	town := town{}
	a, b := town.add("a"), town.add("b")
	old := b.set(t, "k", []byte("old"))
	new := b.set(t, "k", []byte("new"))
	heardOld, heardNew := writer{b: []byte{aValue}}, writer{b: []byte{aValue}}
	heardOld.value(old)
	heardNew.value(new)
	a.part.News(heardNew.b)
	for range 2 {
		if _, news := a.part.News(heardOld.b); news {
			t.Error("an old value is news")
		}
	}
	a.dead["b"] = true
	a.store.DropNode("b")
	a.part.News(heardNew.b)
	a.part.Merge(b.part.State())
	a.catchUp(t)
	if v, ok := a.store.Latest(status.KV, "k"); ok {
		t.Errorf("the dead say %q", v.Data)
	}
	a.dead["b"] = false
	a.part.Came("b")
	a.catchUp(t)
	if v, _ := a.store.Latest(status.KV, "k"); string(v.Data) != "new" {
		t.Errorf("the node that is back says %q", v.Data)
	}
}
