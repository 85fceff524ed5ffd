package membership

import (
	"log/slog"
	"net/netip"
	"testing"
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
