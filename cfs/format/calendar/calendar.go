// Package calendar reads calendar events, such as "mon..fri 02:30", and finds
// the next time at which one happens.
//
//	[weekdays] [[year-]month-day] [[hours:]minutes[:seconds]] [UTC]
//
// Each part is "*", a number, a list "a,b", a range "a..b" or a repetition
// "start/step". It also knows words from "minutely" to "yearly". The package
// owns that grammar; it never looks at the clock.
package calendar

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An Event is a set of points of local time.
type Event struct {
	utc      bool
	weekdays [7]bool // from Sunday
	years    set     // nil for all
	months   set
	days     set
	hours    set
	minutes  set
	seconds  set
}

// A set holds numbers; nil holds all.
type set map[int]bool

func (s set) has(n int) bool { return s == nil || s[n] }

// words stand for whole events.
var words = map[string]string{
	"minutely": "*:*", "hourly": "*:0", "daily": "0:0", "weekly": "mon 0:0",
	"monthly": "*-*-1 0:0", "quarterly": "*-1,4,7,10-1 0:0", "semiannually": "*-1,7-1 0:0", "semi-annually": "*-1,7-1 0:0",
	"yearly": "*-1-1 0:0", "annually": "*-1-1 0:0",
}

var names = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Parse reads an event.
func Parse(text string) (*Event, error) {
	parts := strings.Fields(text)
	if len(parts) == 0 {
		return nil, errors.New("unable to parse calendar event - event is empty")
	}
	e := &Event{}
	if last := len(parts) - 1; strings.EqualFold(parts[last], "utc") && last > 0 {
		e.utc, parts = true, parts[:last]
	}
	if word, ok := words[strings.ToLower(parts[0])]; ok && len(parts) == 1 {
		parts = strings.Fields(word)
	}
	for _, take := range []func(string) (bool, error){e.takeWeekdays, e.takeDate, e.takeTime} {
		part := ""
		if len(parts) > 0 {
			part = parts[0]
		}
		taken, err := take(part)
		if err != nil {
			return nil, err
		}
		if taken {
			parts = parts[1:]
		}
	}
	if len(parts) > 0 {
		return nil, errors.New("unable to parse calendar event - unused parts")
	}
	return e, nil
}

var weekdayForm = regexp.MustCompile(`(?i)^[a-z]{3}[a-z.,]*$`)

func (e *Event) takeWeekdays(part string) (bool, error) {
	if !weekdayForm.MatchString(part) {
		for i := range e.weekdays {
			e.weekdays[i] = true
		}
		return false, nil
	}
	for _, item := range strings.Split(strings.ToLower(part), ",") {
		first, last, ranged := strings.Cut(item, "..")
		if !ranged {
			last = first
		}
		a, okA := weekday(first)
		b, okB := weekday(last)
		if okA && okB && b == 0 && a > 0 {
			b = 7 // Sunday may end a range
		}
		if !okA || !okB || b < a {
			return false, fmt.Errorf("unable to parse weekdays '%s'", item)
		}
		for d := a; d <= b; d++ {
			e.weekdays[d%7] = true
		}
	}
	return true, nil
}

// weekday accepts the short and the full name.
func weekday(name string) (int, bool) {
	for i, short := range names {
		if name == short || name == strings.ToLower(time.Weekday(i).String()) {
			return i, true
		}
	}
	return 0, false
}

// The years that events can name.
const firstYear, lastYear = 1970, 2199

func (e *Event) takeDate(part string) (bool, error) {
	fields := strings.Split(part, "-")
	if len(fields) < 2 {
		return false, nil
	}
	if len(fields) == 2 {
		fields = append([]string{"*"}, fields...)
	}
	if len(fields) > 3 {
		return false, fmt.Errorf("unable to parse date '%s'", part)
	}
	for i, field := range []struct {
		set         *set
		first, last int
	}{{&e.years, firstYear, lastYear}, {&e.months, 1, 12}, {&e.days, 1, 31}} {
		s, err := parseSet(fields[i], field.first, field.last)
		if err != nil {
			return false, err
		}
		*field.set = s
	}
	return true, nil
}

// takeTime reads minutes, hours:minutes or hours:minutes:seconds; without any
// the event is at midnight.
func (e *Event) takeTime(part string) (bool, error) {
	zero := set{0: true}
	e.hours, e.minutes, e.seconds = zero, zero, zero
	if part == "" {
		return false, nil
	}
	fields := strings.Split(part, ":")
	if len(fields) == 1 {
		fields = []string{"*", fields[0]}
	}
	if len(fields) > 3 {
		return false, fmt.Errorf("unable to parse time '%s'", part)
	}
	sets := []*set{&e.hours, &e.minutes, &e.seconds}
	for i, field := range fields {
		last := 59
		if i == 0 {
			last = 23
		}
		s, err := parseSet(field, 0, last)
		if err != nil {
			return false, err
		}
		*sets[i] = s
	}
	return true, nil
}

var itemForm = regexp.MustCompile(`^(\*|\d{1,4})(?:\.\.(\d{1,4}))?(?:/([1-9]\d{0,3}))?$`)

// parseSet reads a list of numbers from first to last.
func parseSet(list string, first, last int) (set, error) {
	s := set{}
	for _, item := range strings.Split(list, ",") {
		m := itemForm.FindStringSubmatch(item)
		if m == nil {
			return nil, fmt.Errorf("unable to parse calendar event '%s'", item)
		}
		if item == "*" {
			return nil, nil
		}
		start, end, step := first, last, 1
		if m[1] != "*" {
			start, _ = strconv.Atoi(m[1])
			if m[2] == "" && m[3] == "" {
				end = start
			}
		}
		if m[2] != "" {
			end, _ = strconv.Atoi(m[2])
		}
		if m[3] != "" {
			step, _ = strconv.Atoi(m[3])
		}
		switch {
		case start < first || start > last:
			return nil, fmt.Errorf("value '%s' out of range", m[1])
		case end < start || end > last:
			return nil, fmt.Errorf("range end '%d' out of range", end)
		case step > last:
			return nil, fmt.Errorf("repetition '%d' out of range", step)
		}
		for n := start; n <= end; n += step {
			s[n] = true
		}
	}
	return s, nil
}

// horizon is how many days Next looks ahead: leap days on a given weekday come
// at least every 40 years.
const horizon = 41 * 366

// Next returns the first time later than after at which the event happens, in
// after's time zone unless the event is in UTC. Where the clock is put forward
// an event inside the gap happens after it; where it is put back, once.
func (e *Event) Next(after time.Time) (time.Time, bool) {
	if e.utc {
		after = after.UTC()
	}
	year, month, day := after.Date()
	for i := range horizon {
		// noon always exists
		date := time.Date(year, month, day+i, 12, 0, 0, 0, after.Location())
		if !e.onDate(date) {
			continue
		}
		if t, ok := e.onDay(date, after); ok {
			return t, true
		}
	}
	return time.Time{}, false
}

func (e *Event) onDate(date time.Time) bool {
	return e.weekdays[date.Weekday()] && e.years.has(date.Year()) && e.months.has(int(date.Month())) && e.days.has(date.Day())
}

// onDay returns the first time of a day later than after.
func (e *Event) onDay(date, after time.Time) (time.Time, bool) {
	year, month, day := date.Date()
	at := func(h, m, s int) time.Time { return time.Date(year, month, day, h, m, s, 0, date.Location()) }
	for h := range 24 {
		if !e.hours.has(h) || !at(h, 59, 59).After(after) {
			continue
		}
		for m := range 60 {
			if !e.minutes.has(m) || !at(h, m, 59).After(after) {
				continue
			}
			for s := range 60 {
				if t := at(h, m, s); e.seconds.has(s) && t.After(after) {
					return t, true
				}
			}
		}
	}
	return time.Time{}, false
}
