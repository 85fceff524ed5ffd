package mount

import (
	"slices"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// depart hides a file that is renamed to a temporary name. The kernel takes the
// node of the file to the new name, but the node stays that of the old name, under
// which there may soon be other content: so it is noted when the kernel was told.
func (m *Mount) depart(caller *fuse.InHeader, e tree.Entry, mv move) error {
	if !m.cfg.Proposer.Quorate() {
		return errNoQuorum
	}
	moved := make(chan struct{})
	d := local.Departure{Path: mv.oldPath, Version: e.Version, UID: caller.Uid, Due: m.cfg.Now().Add(local.Grace), Moved: moved}
	if err := m.locals.Depart(mv.from, d, mv.to, e); err != nil {
		return err
	}
	m.queue.put(news{name: &mv.to, told: moved})
	return nil
}

// awaitMove waits until the kernel knows what departed from a place, before
// anything new is there. It is for requests during which the kernel holds no
// directory.
func (m *Mount) awaitMove(cancel <-chan struct{}, at local.Place) {
	d, ok := m.locals.Departure(at)
	if !ok {
		return
	}
	late := time.NewTimer(movePatience)
	defer late.Stop()
	select {
	case <-d.Moved:
	case <-late.C: // some other request keeps the directory
	case <-cancel:
	case <-m.ctx.Done():
	}
}

// movePatience is for how long a save waits for another to leave the directory.
const movePatience = time.Second

// removals removes what has departed for good, until the mount ends.
func (m *Mount) removals() {
	tick := time.NewTicker(local.Grace / 2)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			now := m.cfg.Now()
			m.removeDeparted(func(_ local.Place, d local.Departure) bool { return !now.Before(d.Due) })
		}
	}
}

// vacate removes at once what has departed from a place, or from the directories
// that are named: what comes there is no save that would take its name again.
func (m *Mount) vacate(place local.Place, dirs ...uint64) {
	m.removeDeparted(func(at local.Place, _ local.Departure) bool { return at == place || slices.Contains(dirs, at.Parent) })
}

func (m *Mount) removeDeparted(which func(local.Place, local.Departure) bool) {
	for at, d := range m.locals.Departed(which) {
		c := &command.Command{ID: m.ids.Add(1), Node: m.cfg.Node, Writer: m.cfg.Writer, UID: d.UID,
			Time: m.cfg.Now().Unix(), Op: command.Remove, Path: d.Path, Expect: d.Version}
		// A refusal means that somebody has changed the file meanwhile: it stays,
		// and shows again. Without quorum it is tried again.
		_, err := m.propose(nil, c, origin.Remote)
		if m.statusOf(err) == 0 || !isTransient(err) {
			m.locals.Arrive(at)
			m.queue.forgetName(at)
		}
	}
}
