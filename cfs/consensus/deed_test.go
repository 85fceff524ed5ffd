package consensus

import (
	"testing"
	"time"

	"etcpve/cfs/command"
)

// TestAnElectionIsNoDeed has two nodes go on without the third: who leads, and that a
// node starts, changes nothing that the third would lack; a save does.
func TestAnElectionIsNoDeed(t *testing.T) {
	inGroup(t, 3, func(g *group) {
		lost := g.leader()
		g.mustSave(lost, "f")
		time.Sleep(2 * TickEvery)
		ctx := g.within(10 * time.Minute)
		position := func(m *machine) Position {
			p, err := m.Position(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		holds := func(m *machine, mark Mark) bool {
			has, err := m.Holds(ctx, mark)
			if err != nil {
				t.Fatal(err)
			}
			return has
		}
		before := position(lost)
		g.isolate(lost.opt.ID, true)
		time.Sleep(5 * time.Second)
		other := g.others(lost)[0]
		if _, err := other.Propose(ctx, &command.Command{Op: command.Noop}); err != nil {
			t.Fatal(err)
		}
		if after := position(other); after.Deed != before.Deed || after.Last <= before.Last {
			t.Errorf("after an election and a start: %+v, before: %+v", after, before)
		}
		if !holds(lost, position(other).Deed) {
			t.Error("the lost node lacks nothing, and does not hold the last deed")
		}
		g.mustSave(other, "g")
		if after := position(other); after.Deed == before.Deed || holds(lost, after.Deed) || !holds(other, after.Deed) {
			t.Errorf("after a save: %+v", after)
		}
		g.isolate(lost.opt.ID, false)
	})
}
