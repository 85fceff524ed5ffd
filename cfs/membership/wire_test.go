package membership

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestOneOfTwoLinksIsEnough has two nodes with two links, of which the first, by whose
// address they know each other, leads nowhere.
func TestOneOfTwoLinksIsEnough(t *testing.T) {
	dead := seat(9) // nobody listens there, so every datagram to it is lost
	at := map[string][]netip.AddrPort{}
	at["n1"], at["n2"] = []netip.AddrPort{seat(1), seat(2)}, []netip.AddrPort{seat(3), seat(4)}
	begin := func(node, other string) (*Gossip, *notebook) {
		n := &notebook{state: "of " + node, seen: map[string]bool{}}
		own, far := at[node], at[other]
		g, err := Start(Config{
			Node: node, Listen: own, Key: key, Timing: LAN(), Log: slog.New(slog.DiscardHandler),
			Allowed: func(string) bool { return true },
			Routes: func(to netip.AddrPort) []Route {
				if to != far[0] && to != far[1] {
					return nil
				}
				return []Route{{own[0], dead}, {own[1], far[1]}}
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
	g1, n1 := begin("n1", "n2")
	g2, n2 := begin("n2", "n1")
	if err := g2.Join(at["n1"][0].String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are known", func() bool { return g1.names() == "n1 n2" && g2.names() == "n1 n2" })
	for _, c := range []struct {
		from *Gossip
		to   *notebook
		text string
	}{{g1, n2, "there"}, {g2, n1, "back"}} {
		if err := c.from.Spread(c.text, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "news "+c.text, func() bool { return c.to.has("news " + c.text) })
	}
}

func TestACopyByAnotherLinkIsDropped(t *testing.T) {
	c := copies{seen: map[mark]bool{}}
	for i := range 3 * rememberMost {
		b := []byte{1, byte(i), byte(i >> 8), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99}
		if !c.first(b) {
			t.Fatalf("datagram %d taken for a copy", i)
		}
		if c.first(b) {
			t.Fatalf("copy of datagram %d taken for another", i)
		}
	}
	if len(c.seen) > rememberMost {
		t.Errorf("%d datagrams remembered", len(c.seen))
	}
	if short := []byte{1}; !c.first(short) || c.first(short) {
		t.Error("a short datagram")
	}
}

// TestTheEndWaitsForNobody asks a node that accepts connections and says nothing.
func TestTheEndWaitsForNobody(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	g, _ := start(t, "n7", key, "n8")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.KeepJoined(ctx, time.Hour, func() []string { return []string{silent.Addr().String()} })
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	cancel()
	<-ended
	if took := time.Since(began); took > 5*time.Second { // the protocol waits for ten
		t.Errorf("the end took %v", took)
	}
}
