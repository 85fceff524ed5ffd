package tree

import "fmt"

// maxRecent is how many identified commands are remembered. It must exceed what
// the cluster can apply while a proposer waits before it proposes again.
const maxRecent = 16 << 10

// Remembered is the result of an identified command, as it is kept in the
// applied state. Slot is its place: a later command in the same slot replaces it.
type Remembered struct {
	Slot  uint32
	ID    uint64
	Index uint64
	Inode uint64
	Code  uint8
}

// recent remembers the last maxRecent identified commands. All nodes forget the
// same ones at the same index, or they would disagree about a repeated command.
type recent struct {
	slots []Remembered // slots[i].Slot == i
	byID  map[uint64]uint32
	next  uint32
}

func newRecent() recent { return recent{byID: map[uint64]uint32{}} }

func (r *recent) find(id uint64) (Result, bool) {
	slot, ok := r.byID[id]
	if !ok {
		return Result{}, false
	}
	m := r.slots[slot]
	return Result{Index: m.Index, Inode: m.Inode, Err: errorOf(m.Code)}, true
}

func (r *recent) remember(m Remembered) {
	if int(m.Slot) < len(r.slots) {
		delete(r.byID, r.slots[m.Slot].ID)
		r.slots[m.Slot] = m
	} else {
		r.slots = append(r.slots, m)
	}
	r.byID[m.ID] = m.Slot
	r.next = (m.Slot + 1) % maxRecent
}

func (r *recent) clone() []Remembered { return append([]Remembered(nil), r.slots...) }

// restore takes over a saved memory, in which the newest command is the one with
// the highest index.
func (r *recent) restore(saved []Remembered) error {
	*r = recent{slots: make([]Remembered, len(saved)), byID: make(map[uint64]uint32, len(saved))}
	newest := Remembered{}
	for _, m := range saved {
		if int(m.Slot) >= len(saved) || len(saved) > maxRecent {
			return fmt.Errorf("memory of commands: slot %d of %d", m.Slot, len(saved))
		}
		r.slots[m.Slot] = m
		r.byID[m.ID] = m.Slot
		if m.Index >= newest.Index {
			newest = m
		}
	}
	if len(saved) > 0 {
		r.next = (newest.Slot + 1) % maxRecent
	}
	return nil
}
