package schema

import "etcpve/cfs/format/calendar"

// calendarEvent refuses schedules that could never be followed.
func calendarEvent(value string) error {
	_, err := calendar.Parse(value)
	return err
}
