// Package balloon decides how the memory that a node has left, or lacks, is
// divided among its guests by their balloons.
//
// It owns the arithmetic: who takes part, who comes first, and how far a guest
// moves in one round. It is pure; it never asks a guest and never moves a
// balloon.
package balloon

// least is how much memory, in bytes, must be there or be missing before
// anything happens: a balloon that moves costs the guest time.
const least = 10 << 20

// usualShares are the shares of a guest that says nothing about them.
const usualShares = 1000

// A Guest is what is known of one guest. Sizes are in bytes.
type Guest struct {
	VMID      uint32
	Max       int64  // its memory
	Min       int64  // below this its balloon never goes; 0: its memory is its own
	Size      int64  // what its balloon leaves it now; 0: it has none that works
	Free      int64  // of Size, as the guest says; 0 if it does not
	Shares    *int64 // of what is divided; nil: usualShares, 0: takes no part
	Migrating bool
}

func (g Guest) shares() int64 {
	if g.Shares == nil {
		return usualShares
	}
	return *g.Shares
}

// takesPart reports whether a guest's memory may be changed at all.
func (g Guest) takesPart() bool {
	return g.Size > 0 && g.Min > 0 && g.shares() > 0 && !g.Migrating
}

// pressed reports whether a guest is short of memory: it has not a quarter of
// its minimum free, or has less than its minimum.
func (g Guest) pressed() bool {
	return g.Free <= g.Min/4 || g.Size < g.Min
}

// Plan hands out goal bytes, or takes them back if goal is negative. It returns
// the new sizes of the guests that change; none moves more than step.
func Plan(guests []Guest, goal, step int64) map[uint32]int64 {
	if goal <= least && goal >= -least {
		return nil
	}
	var all, preferred []Guest
	for _, g := range guests {
		if !g.takesPart() {
			continue
		}
		all = append(all, g)
		if g.pressed() == (goal > 0) {
			preferred = append(preferred, g)
		}
	}
	plan := divide(preferred, goal, step)
	if !towards(goal, Moved(all, plan)) {
		plan = divide(all, goal, step)
	}
	if !towards(goal, Moved(all, plan)) {
		// Steps were too short for some to give what others would have taken.
		for _, g := range all {
			if size, ok := plan[g.VMID]; ok && !towards(goal, size-g.Size) {
				delete(plan, g.VMID)
			}
		}
	}
	return plan
}

// towards reports whether a change brings memory nearer to a goal.
func towards(goal, change int64) bool {
	return change != 0 && change > 0 == (goal > 0)
}

// Moved returns how many bytes a plan hands out.
func Moved(guests []Guest, plan map[uint32]int64) (bytes int64) {
	for _, g := range guests {
		if size, ok := plan[g.VMID]; ok {
			bytes += size - g.Size
		}
	}
	return bytes
}

// divide gives every guest its minimum and, of what is above all minima, a part
// by its shares. What one guest cannot take, because it is at its maximum, or
// cannot give, is divided among the others. A guest that could not move towards
// the goal at all takes no part.
func divide(guests []Guest, goal, step int64) map[uint32]int64 {
	var open []Guest
	above := goal // of all minima of those that are open
	for _, g := range guests {
		if grows := goal > 0; grows && g.Size < g.Max || !grows && g.Size > g.Min {
			open = append(open, g)
			above += g.Size - g.Min
		}
	}
	plan := map[uint32]int64{}
	for cut := true; cut; {
		cut = false
		var shares int64
		for _, g := range open {
			shares += g.shares()
		}
		var rest []Guest
		left := above
		for _, g := range open {
			target := g.Min + part(above, g.shares(), shares)
			size := max(g.Min, min(g.Max, target))
			if size == target {
				rest = append(rest, g)
			} else {
				left -= size - g.Min
				cut = true
			}
			plan[g.VMID] = max(g.Size-step, min(g.Size+step, size))
		}
		open, above = rest, left
	}
	for _, g := range guests {
		if plan[g.VMID] == g.Size {
			delete(plan, g.VMID)
		}
	}
	return plan
}

// part is what shares of all are worth, cut down to whole bytes.
func part(bytes, shares, all int64) int64 {
	whole, remainder := bytes/all, bytes%all
	return whole*shares + remainder*shares/all
}
