package cfstest

import (
	"reflect"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"etcpve/cfs/tree"
)

// checkConverged checks that all nodes have come to the same tree.
func (w *world) checkConverged() {
	l := w.leader()
	if l == nil {
		w.fail("no leader although everything has healed")
		return
	}
	s := l.node.Status()
	for _, id := range w.ids() {
		run := w.members[id].run
		if run == nil {
			w.fail("node %d does not run", id)
			continue
		}
		now := run.node.Status()
		if now.Applied != s.Commit || !now.Quorate || w.mostVoters == 0 && !slices.Contains(s.Voters, id) {
			w.fail("node %d stands at %+v, the leader at %+v", id, now, s)
			continue
		}
		w.compare(run)
		checkTree(w, run)
	}
}

// checkTree checks the rules of a tree: counts, paths, one place for each guest.
func checkTree(w *world, run *incarnation) {
	restored, state := tree.New(), run.tree.State()
	if err := restored.Restore(state); err != nil {
		w.fail("node %d: %v", run.id, err)
	} else if !reflect.DeepEqual(restored.State(), state) {
		w.fail("node %d: counts of the tree are not those of its entries", run.id)
	}
}

// checkPromises checks that what was acknowledged is there and what was refused
// is not.
func (w *world) checkPromises() {
	for id, index := range w.acknowledged {
		if w.applied[id] != index && w.broken != countsTwice {
			w.fail("a change acknowledged at %d was applied at %d", index, w.applied[id])
		}
	}
	for id, d := range w.refused {
		if index := w.applied[id]; index != 0 {
			w.fail("%v was refused and applied at %d all the same", d, index)
		}
	}
}

// patience is how long the checker may think about one seed, in its bubble's time
// nothing.
const patience = 10 * time.Second

// checkHistory checks that the answers fit one order of all changes.
func (w *world) checkHistory() {
	for g, part := range simModel.Partition(w.history) {
		m := simModel
		m.Partition = nil
		if len(part) > 0 && porcupine.CheckOperationsTimeout(m, part, patience) == porcupine.Illegal {
			w.fail("the answers about group %d fit no order", g)
		}
	}
}
