package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/fixtures/loopback"
)

// A notebook is a carrier that remembers what it was given.
type notebook struct {
	mu    sync.Mutex
	state string
	seen  map[string]bool
}

func (n *notebook) State() []byte      { return []byte(n.state) }
func (n *notebook) Merge(state []byte) { n.note("state " + string(state)) }

func (n *notebook) News(body []byte) (string, bool) {
	return string(body), n.note("news " + string(body))
}

func (n *notebook) note(s string) (fresh bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh = !n.seen[s]
	n.seen[s] = true
	return fresh
}

func (n *notebook) has(s string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[s]
}

var key = bytes.Repeat([]byte("k"), 32)

// seat returns where the nth node of a test listens.
func seat(n byte) netip.AddrPort { return netip.AddrPortFrom(loopback.Address(n), 5406) }

// start runs a node whose name ends in the number of its place.
func start(t *testing.T, node string, key []byte, allowed ...string) (*Gossip, *notebook) {
	t.Helper()
	n := &notebook{state: "of " + node, seen: map[string]bool{}}
	g, err := Start(Config{
		Node: node, Listen: []netip.AddrPort{seat(node[1] - '0')}, Key: key, Timing: LAN(), Log: slog.New(slog.DiscardHandler),
		Allowed: func(other string) bool {
			return strings.Contains(strings.Join(allowed, " "), other) || slices.Contains(allowed, other[:1])
		},
	}, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.list.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return g, n
}

func (g *Gossip) address() string { return g.config.Listen[0].String() }

func (g *Gossip) names() string { return strings.Join(g.Members(), " ") }

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestNodesFindEachOtherAndMissTheDead(t *testing.T) {
	g1, n1 := start(t, "n1", key, "n2", "n3")
	g2, n2 := start(t, "n2", key, "n1", "n3")
	g3, n3 := start(t, "n3", key, "n1", "n2")
	for _, g := range []*Gossip{g2, g3} {
		if err := g.Join(g1.address()); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []*Gossip{g1, g2, g3} {
		eventually(t, "all three are known", func() bool { return g.names() == "n1 n2 n3" })
	}
	eventually(t, "a newcomer has the state", func() bool { return n3.has("state of n1") && n1.has("state of n3") })
	if err := g1.Spread("greeting", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "news reaches all", func() bool { return n2.has("news hello") && n3.has("news hello") })
	if err := g3.list.Shutdown(); err != nil { // no good-bye, as in a crash
		t.Fatal(err)
	}
	eventually(t, "the dead are missed", func() bool { return g1.names() == "n1 n2" && g2.names() == "n1 n2" })
	select {
	case <-g1.Changed():
	default:
		t.Error("a change was not signalled")
	}
}

func TestKeepJoinedRepairsAColdStart(t *testing.T) {
	g1, _ := start(t, "n1", key, "n2")
	g2, _ := start(t, "n2", key, "n1")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g2.KeepJoined(ctx, 10*time.Millisecond, func() []string { return []string{g1.address()} })
	}()
	eventually(t, "both are known", func() bool { return g1.names() == "n1 n2" })
	cancel()
	<-ended
}

func TestStrangersStayOutside(t *testing.T) {
	g1, n1 := start(t, "n1", key, "n2")
	for name, k := range map[string][]byte{"n2": bytes.Repeat([]byte("x"), 32), "n9": key} {
		g, n := start(t, name, k, "n1")
		err := g.Join(g1.address())
		if g1.names() != "n1" {
			t.Errorf("%s became a member: %s, %v", name, g1.names(), err)
		}
		if name == "n2" && (err == nil || n.has("state of n1") || n1.has("state of n2")) {
			t.Errorf("a node with another key was talked to: %v", err)
		}
	}
}

func TestLargeNewsIsRefusedNotLost(t *testing.T) {
	g, _ := start(t, "n1", key)
	if err := g.Spread("big", make([]byte, MaxNews+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Spread = %v", err)
	}
	if err := g.Spread("fits", make([]byte, MaxNews)); err != nil {
		t.Error(err)
	}
	if got := len(g.queue.GetBroadcasts(3, 1390)); got != 1 {
		t.Errorf("%d broadcasts of the largest size, want 1", got)
	}
}

func TestNewsReplacesOlderNewsOfItsSubject(t *testing.T) {
	g, _ := start(t, "n1", key)
	for i := range 10 {
		if err := g.Spread("load", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	got := g.queue.GetBroadcasts(3, 1390)
	if len(got) != 1 || string(got[0]) != "9" {
		t.Errorf("broadcasts = %q", got)
	}
}
