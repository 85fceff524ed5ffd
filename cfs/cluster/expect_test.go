package cluster

import (
	"slices"
	"strings"
	"testing"
)

// TestFewerVotesAreExpected loses two nodes of five, gives up their votes, and loses one
// more: the two that are left go on. Those that come back vote again.
func TestFewerVotesAreExpected(t *testing.T) {
	a, b, c := three(t)
	d, e := newMachine(t, 4), newMachine(t, 5)
	for i, m := range []*machine{d, e} {
		m.start()
		m.enter(a)
		want := 3 + 2*i // an even number votes no better
		a.eventually("having the votes", a.votes(want))
	}
	expect := func(m *machine, n uint32, want string) {
		t.Helper()
		err := m.cluster.Expect(t.Context(), n)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d are expected: %v, want %q", n, err, want)
		}
	}
	expect(b, 1, "") // all answer: nothing happens
	expect(b, 6, "all nodes of corosync.conf have 5")
	a.eventually("having all votes", a.votes(5))
	d.stop()
	e.stop()
	a.eventually("missing both", func() bool { return len(a.cluster.Alive()) == 3 && len(b.cluster.Alive()) == 3 })
	if r := b.cluster.Report(); r.Expected != 5 {
		t.Errorf("%d votes are expected of five", r.Expected)
	}
	expect(b, 3, "")
	expect(b, 4, "3 votes are expected")
	b.eventually("expecting three", func() bool { return b.cluster.Report().Expected == 3 })
	if s := a.order.Status(); slices.Contains(s.Voters, 4) || slices.Contains(s.Voters, 5) {
		t.Errorf("the absent vote: %+v", s)
	}
	c.stop()
	a.save("two-of-five", "x")
	b.eventually("hearing of it", b.has("two-of-five", "x"))
	c.start()
	d.start()
	e.start()
	a.eventually("having all votes again", a.votes(5))
	if r := a.cluster.Report(); r.Expected != 5 {
		t.Errorf("%d votes are expected of five", r.Expected)
	}
}
