package mount

import (
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
			m.removeDeparted(m.cfg.Now())
		}
	}
}

func (m *Mount) removeDeparted(now time.Time) {
	for at, d := range m.locals.Overdue(now) {
		c := &command.Command{ID: m.ids.Add(1), Node: m.cfg.Node, Writer: m.cfg.Writer, UID: d.UID,
			Time: now.Unix(), Op: command.Remove, Path: d.Path, Expect: d.Version}
		// A refusal means that somebody has changed the file meanwhile: it stays,
		// and shows again. Without quorum it is tried again.
		_, err := m.propose(nil, c, origin.Remote)
		if m.statusOf(err) == 0 || !isTransient(err) {
			m.locals.Arrive(at)
			m.queue.forgetName(at)
		}
	}
}
