package cfstest

import (
	"reflect"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// converged reports whether all have come to the same index and nobody waits for
// an answer.
func (w *world) converged() bool {
	l := w.leader()
	if l == nil {
		return false
	}
	for _, c := range w.clients {
		if c.busy != nil {
			return false
		}
	}
	s := l.node.Status()
	for _, id := range w.ids() {
		run := w.members[id].run
		if run == nil || w.members[id].fresh || run.node.Status().Applied != s.Commit || !run.node.Quorate() || w.mostVoters == 0 && !slices.Contains(s.Voters, id) {
			return false
		}
	}
	return true
}

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

// checkTree checks the rules of a tree: counts and paths, one place for each
// guest, the limits.
func checkTree(w *world, run *incarnation) {
	restored, state := tree.New(), run.tree.State()
	if _, err := restored.Restore(state); err != nil {
		w.fail("node %d: %v", run.id, err)
	} else if !reflect.DeepEqual(restored.State(), state) {
		w.fail("node %d: counts of the tree are not those of its entries", run.id)
	}
	total, guests := 0, map[uint32]string{}
	for _, e := range state.Entries {
		path, _ := run.tree.Path(e.Inode)
		if g, ok := layout.GuestOf(path); ok {
			if other, twice := guests[g.VMID]; twice {
				w.fail("node %d: guest %d is both %s and %s", run.id, g.VMID, other, path)
			}
			guests[g.VMID] = path
		}
		if total += len(e.Data); len(e.Data) > layout.MaxFile {
			w.fail("node %d: %s has %d bytes", run.id, path, len(e.Data))
		}
	}
	if total > layout.MaxTotal {
		w.fail("node %d: the tree has %d bytes", run.id, total)
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
	for g, part := range simModel.Partition(w.marked()) {
		m := simModel
		m.Partition = nil
		if len(part) > 0 && porcupine.CheckOperationsTimeout(m, part, patience) == porcupine.Illegal {
			w.fail("the answers about group %d fit no order", g)
		}
	}
}

// marked returns the history with what locks were marked with. Whoever took or
// renewed one and was never told matters only if it was carried out.
func (w *world) marked() (list []porcupine.Operation) {
	for _, o := range w.history {
		d := o.Input.(deed)
		if d.group == lockGroup && o.Output.(answer).unknown && w.applied[d.command] == 0 {
			continue
		}
		d.mark = w.marks[d.command]
		o.Input = d
		list = append(list, o)
	}
	return list
}
