package storage

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"etcpve/cfs/format/property"
)

// A Mark is what becomes of a backup.
type Mark string

// The marks.
const (
	Keep      Mark = "keep"
	Remove    Mark = "remove"
	Protected Mark = "protected" // kept, and not counted by any rule
	Renamed   Mark = "renamed"   // not a name of vzdump's: left alone
)

// Retention says how many backups of a guest to keep, by "keep-last",
// "keep-hourly", …; "keep-all" keeps everything.
type Retention map[string]int

// ParseRetention reads a prune-backups setting.
func ParseRetention(value string) (Retention, error) {
	parts, err := property.Split(value)
	if err != nil {
		return nil, err
	}
	keep := Retention{}
	for _, part := range parts {
		n, err := strconv.Atoi(part.Value)
		if err != nil {
			return nil, fmt.Errorf("prune-backups: %s: %q is not a number", part.Key, part.Value)
		}
		keep[part.Key] = n
	}
	return keep, nil
}

// all reports whether nothing may be removed.
func (r Retention) all() bool {
	return r["keep-all"] != 0 || !slices.ContainsFunc(periods, func(p period) bool { return r[p.key] > 0 })
}

// A period is a rule of retention: of the backups with the same name, only one
// is kept.
type period struct {
	key  string
	name func(time.Time) string
}

// periods are the rules in the order in which they are applied.
var periods = []period{
	{"keep-last", layoutOf(time.DateTime)},
	{"keep-hourly", layoutOf("2006-01-02 15")},
	{"keep-daily", layoutOf("2006-01-02")},
	{"keep-weekly", func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprintf("%d-%d", year, week)
	}},
	{"keep-monthly", layoutOf("2006-01")},
	{"keep-yearly", layoutOf("2006")},
}

func layoutOf(layout string) func(time.Time) string {
	return func(t time.Time) string { return t.Format(layout) }
}

// A Candidate is a backup about which to decide.
type Candidate struct {
	ID        string // volume ID
	VMID      uint32
	Created   int64 // seconds since 1970, unless the name says better
	Protected bool

	Type string // decided: qemu, lxc, openvz, unknown
	Mark Mark   // decided
}

// Prune decides what becomes of each backup, sorted by volume ID. With kind or
// vmid, only backups of that type or guest are looked at.
func Prune(backups []Candidate, keep Retention, kind string, vmid uint32, zone *time.Location) []Candidate {
	var decided []Candidate
	for _, b := range backups {
		a, err := ParseArchive(b.ID, zone)
		b.Type = cmp.Or(a.Type, "unknown")
		if kind != "" && b.Type != kind || vmid != 0 && b.VMID != vmid {
			continue
		}
		switch {
		case b.Protected:
			b.Mark = Protected
		case err != nil || !a.Standard:
			b.Mark = Renamed
		case keep.all():
			b.Mark = Keep
		}
		if a.Standard {
			b.VMID, b.Created = a.VMID, a.Created.Unix()
		}
		decided = append(decided, b)
	}
	groups := map[string][]*Candidate{}
	for i := range decided {
		if b := &decided[i]; b.Mark == "" {
			key := fmt.Sprint(b.Type, b.VMID)
			groups[key] = append(groups[key], b)
		}
	}
	for _, group := range groups {
		slices.SortStableFunc(group, func(a, b *Candidate) int { return cmp.Compare(b.Created, a.Created) })
		pruneGroup(group, keep, zone)
	}
	slices.SortFunc(decided, func(a, b Candidate) int { return cmp.Compare(a.ID, b.ID) })
	return decided
}

// pruneGroup decides about the backups of one guest, newest first.
func pruneGroup(group []*Candidate, keep Retention, zone *time.Location) {
	for _, p := range periods {
		pruneByPeriod(group, keep[p.key], func(b *Candidate) string { return p.name(time.Unix(b.Created, 0).In(zone)) })
	}
	for _, b := range group {
		b.Mark = cmp.Or(b.Mark, Remove)
	}
}

// pruneByPeriod keeps the newest unmarked backup of each of the next n periods
// that have none yet, and gives up the others of these periods.
func pruneByPeriod(group []*Candidate, n int, name func(*Candidate) string) {
	if n <= 0 {
		return
	}
	served, counted := map[string]bool{}, map[string]bool{}
	for _, b := range group {
		if b.Mark == Keep {
			served[name(b)] = true
		}
	}
	for _, b := range group {
		p := name(b)
		switch {
		case b.Mark != "" || served[p]:
		case counted[p]:
			b.Mark = Remove
		case len(counted) == n:
			return
		default:
			counted[p] = true
			b.Mark = Keep
		}
	}
}
