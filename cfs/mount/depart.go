package mount

import (
	"slices"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/mount/local"
	"etcpve/cfs/mount/origin"
)

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
