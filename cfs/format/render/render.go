// Package render writes numbers the way the tools show them: times, durations,
// percentages and bytes.
//
// It owns those texts. It never looks at the clock or the machine's time zone;
// callers pass both.
package render

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Timestamp renders Unix time in a time zone.
func Timestamp(seconds int64, zone *time.Location) string {
	return time.Unix(seconds, 0).In(zone).Format("2006-01-02 15:04:05")
}

// Duration renders seconds as "1w 2d 3h 4m 5s", without parts that are zero.
func Duration(seconds float64) string {
	rest := math.Round(seconds)
	var parts []string
	for _, unit := range []struct {
		name    string
		seconds float64
	}{{"w", 604800}, {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}} {
		if n := math.Floor(rest / unit.seconds); n > 0 {
			parts = append(parts, fmt.Sprintf("%.0f%s", n, unit.name))
			rest -= n * unit.seconds
		}
	}
	if len(parts) == 0 {
		return "0s"
	}
	return strings.Join(parts, " ")
}

// Percentage renders a fraction of one.
func Percentage(fraction float64) string { return fmt.Sprintf("%.2f%%", fraction*100) }

// BytesPrecision is the number of decimals Bytes is usually given.
const BytesPrecision = 2

// Bytes renders an amount in the largest fitting unit of B, KiB, … PiB.
func Bytes(bytes float64, precision int) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	for bytes >= 1024 && len(units) > 1 {
		bytes /= 1024
		units = units[1:]
	}
	return fmt.Sprintf("%.*f %s", precision, bytes, units[0])
}
