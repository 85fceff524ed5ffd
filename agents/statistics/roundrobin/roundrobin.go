// Package roundrobin keeps samples in round-robin files: a minute's mean and
// maximum for a day, half an hour's for a month, and so on for ten years, in
// files that never grow.
//
// It owns the layout of the files, which is Proxmox VE's, so that what reads
// those reads these, and the talk with rrdtool(1), which writes them. It never
// measures anything.
package roundrobin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/sample"
)

// DefaultDir is where Proxmox VE has the files.
const DefaultDir = "/var/lib/rrdcached/db"

// A column is a data source of a file. Values that only rise are kept by how
// fast they do.
type column struct {
	name  string
	rises bool
}

// columns of each form, in the order of its values.
var columns = map[string][]column{
	sample.NodeForm: named("loadavg maxcpu cpu iowait memtotal memused swaptotal swapused roottotal rootused "+
		"netin netout memavailable arcsize pressurecpusome pressureiosome pressureiofull pressurememorysome pressurememoryfull",
		"netin", "netout"),
	sample.GuestForm: named("maxcpu cpu maxmem mem maxdisk disk netin netout diskread diskwrite memhost "+
		"pressurecpusome pressurecpufull pressureiosome pressureiofull pressurememorysome pressurememoryfull",
		"netin", "netout", "diskread", "diskwrite"),
	sample.StorageForm: named("total used"),
}

func named(names string, rising ...string) (list []column) {
	for _, n := range strings.Fields(names) {
		list = append(list, column{n, slices.Contains(rising, n)})
	}
	return list
}

// Times of the files, in seconds: between two values, and how old a value may be
// before the next.
const (
	step      = 60
	heartbeat = 120
)

// archives are how many steps make a row, and how many rows there are.
var archives = [][2]int{{1, 1440}, {30, 1440}, {360, 1440}, {10080, 570}}

// layout returns the words that create a file of a form.
func layout(form string) (words []string) {
	for _, c := range columns[form] {
		kind := "GAUGE"
		if c.rises {
			kind = "DERIVE"
		}
		words = append(words, fmt.Sprintf("DS:%s:%s:%d:0:U", c.name, kind, heartbeat))
	}
	for _, how := range []string{"AVERAGE", "MAX"} {
		for _, a := range archives {
			words = append(words, fmt.Sprintf("RRA:%s:0.5:%d:%d", how, a[0], a[1]))
		}
	}
	return words
}

// A Runner runs commands on the machine.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// Files are the round-robin files below one directory.
type Files struct {
	Dir    string // default DefaultDir
	Runner Runner // default the machine

	waiting map[string][]sample.Row // by key
	last    map[string]int64        // time of the newest row that was taken
}

// oddest is how far from now a row's time may be: a row from the future would
// keep all others out of its file until then.
const oddest = 5 * time.Minute

// keyForm keeps names from leading anywhere else, and from being more than one
// word of a command.
var keyForm = regexp.MustCompile(`^[a-z0-9.-]+(/[A-Za-z0-9_][A-Za-z0-9_.-]*){1,2}$`)

// Add takes rows that are newer than those it has. They are written by Flush.
func (f *Files) Add(rows []sample.Row, now time.Time) {
	if f.last == nil {
		f.waiting, f.last = map[string][]sample.Row{}, map[string]int64{}
	}
	for _, r := range rows {
		form, _, _ := strings.Cut(r.Key, "/")
		off := time.Unix(r.Time, 0).Sub(now).Abs()
		if columns[form] == nil || !keyForm.MatchString(r.Key) || off > oddest || r.Time <= f.last[r.Key] {
			continue
		}
		f.last[r.Key] = r.Time
		f.waiting[r.Key] = append(f.waiting[r.Key], r)
	}
	maps.DeleteFunc(f.last, func(_ string, t int64) bool { return now.Sub(time.Unix(t, 0)) > 2*oddest })
}

// Flush writes what was added since the last time, with one run of rrdtool for
// all files. A file that cannot be written keeps no other from it.
func (f *Files) Flush(ctx context.Context) error {
	if len(f.waiting) == 0 {
		return nil
	}
	rows := f.waiting
	f.waiting = map[string][]sample.Row{}
	var script []string
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		create, err := f.create(key, rows[key][0].Time)
		if err != nil {
			return err
		}
		update := "update " + key + " --skip-past-updates"
		for _, r := range rows[key] {
			update += " " + values(r)
		}
		script = append(append(script, create...), update)
	}
	out, err := f.runner().Run(ctx, host.Command{
		Argv: []string{"rrdtool", "-"}, Stdin: []byte(strings.Join(script, "\n") + "\n"), Dir: f.dir(),
	})
	if err != nil {
		return fmt.Errorf("round-robin files: %w", err)
	}
	return failures(script, string(out))
}

func (f *Files) dir() string {
	if f.Dir == "" {
		return DefaultDir
	}
	return f.Dir
}

func (f *Files) runner() Runner {
	if f.Runner == nil {
		return host.System{}
	}
	return f.Runner
}

// create returns the command that makes a file, unless it is there. Proxmox VE
// makes its files in the same places, so they are never made anew.
func (f *Files) create(key string, begin int64) ([]string, error) {
	name := filepath.Join(f.dir(), key)
	if _, err := os.Stat(name); err == nil {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("round-robin files: %w", err)
	}
	form, _, _ := strings.Cut(key, "/")
	return []string{fmt.Sprintf("create %s --start %d --step %d %s", key, begin-step, step, strings.Join(layout(form), " "))}, nil
}

// values returns a row as rrdtool takes it. A newer version may have more values
// than there are columns, an older one fewer.
func values(r sample.Row) string {
	form, _, _ := strings.Cut(r.Key, "/")
	words := []string{strconv.FormatInt(r.Time, 10)}
	for i, c := range columns[form] {
		word := sample.Unknown
		if i < len(r.Values) && !(c.rises && strings.ContainsAny(r.Values[i], ".eE")) {
			word = r.Values[i]
		}
		words = append(words, word)
	}
	return strings.Join(words, ":")
}

// failures reads rrdtool's answers, one for each command. That a row is there
// already is none, see --skip-past-updates: an agent that was started anew begins
// with those of the last minutes.
func failures(script []string, out string) (err error) {
	var answers []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "OK") || strings.HasPrefix(line, "ERROR") {
			answers = append(answers, line)
		}
	}
	for i, answer := range answers {
		if strings.HasPrefix(answer, "OK") || i >= len(script) {
			continue
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(script[i], "update "), " ")
		err = errors.Join(err, fmt.Errorf("round-robin files: %s: %s", key, answer))
	}
	if len(answers) < len(script) {
		err = errors.Join(err, fmt.Errorf("round-robin files: rrdtool answered %d of %d commands", len(answers), len(script)))
	}
	return err
}
