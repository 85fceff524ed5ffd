package node

import "time"

// A clock is the time of a CRM or LRM. It goes on evenly when the time of day
// is set, and in tests it may run faster than time does, rounds and locks with it.
type clock struct {
	begin time.Time
	speed int
}

func newClock(speed int) clock { return clock{time.Now(), max(speed, 1)} }

// Now returns the time in seconds.
func (c clock) Now() int64 {
	return c.begin.Unix() + int64(time.Since(c.begin)*time.Duration(c.speed)/time.Second)
}

// of is how long d lasts by this clock.
func (c clock) of(d time.Duration) time.Duration { return d / time.Duration(c.speed) }
