package consensus

import "time"

// pulse is the clock of a node. Those of different nodes tick at different moments
// of each TickEvery: two that miss their leader at the same tick would ask for
// votes at the same time, and neither get enough.
type pulse struct {
	id     uint64
	ticker *time.Ticker
	phased bool // the next tick is a whole TickEvery after the last
}

func newPulse(id uint64) *pulse {
	p := &pulse{id: id, ticker: time.NewTicker(TickEvery)}
	p.start(time.Now())
	return p
}

// start sets the first tick, by the time of day: members know it alike within
// milliseconds, and if they do not, their phases are as good as random.
func (p *pulse) start(now time.Time) {
	p.ticker.Reset(1 + (p.phase()+TickEvery-time.Duration(now.UnixNano())%TickEvery)%TickEvery)
	p.phased = false
}

// phase is the moment of a node's ticks within TickEvery. Multiples of the golden
// ratio stay apart however many there are.
func (p *pulse) phase() time.Duration {
	const golden = uint64(TickEvery) * 618_034 / 1_000_000
	return time.Duration(p.id % uint64(TickEvery) * golden % uint64(TickEvery))
}

// rest stops the clock of a group of one, to which time means nothing, and starts
// it again.
func (p *pulse) rest(alone bool) {
	switch {
	case p == nil:
	case alone:
		p.ticker.Stop()
	default:
		p.start(time.Now())
	}
}

// beat takes a tick.
func (p *pulse) beat() {
	if p != nil && !p.phased {
		p.phased = true
		p.ticker.Reset(TickEvery)
	}
}
