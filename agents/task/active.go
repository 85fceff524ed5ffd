package task

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"etcpve/cfs/format/upid"
)

// An entry is a task that runs, or one that ended.
type entry struct {
	id     upid.UPID
	end    int64 // 0 while it runs
	status string
}

// maxRecent is how many ended tasks are listed beside those that run.
const maxRecent = 25

// String is the entry as a line of the file "active": the UPID, whether it is
// in the index, and how it ended.
func (e entry) String() string {
	if e.end == 0 {
		return e.id.String() + " 0"
	}
	return fmt.Sprintf("%s 1 %08X %s", e.id, e.end, e.status)
}

var activeLine = regexp.MustCompile(`^(\S+) [01](?: ([0-9A-Za-z]{8})(?: (\S.*))?)?$`)

// readActive reads the ended tasks of a file "active". Those it calls running
// were another process's.
func readActive(dir string) (all []entry) {
	text, _ := os.ReadFile(filepath.Join(dir, "active")) // the list begins anew where there is none
	for line := range strings.Lines(string(text)) {
		m := activeLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || m[2] == "" {
			continue
		}
		id, err := upid.Parse(m[1])
		end, err2 := strconv.ParseInt(m[2], 16, 64)
		if err == nil && err2 == nil {
			all = append(all, entry{id, end, m[3]})
		}
	}
	return all
}

// note lists a task that has begun, or ended. A full disk loses the list only.
func (a *Agent) note(e entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent = slices.DeleteFunc(a.recent, func(other entry) bool { return other.id == e.id })
	a.recent = append([]entry{e}, a.recent...)
	ended := 0
	a.recent = slices.DeleteFunc(a.recent, func(other entry) bool {
		if other.end != 0 {
			ended++
		}
		return other.end != 0 && ended > maxRecent
	})
	var b strings.Builder
	for _, e := range a.recent {
		fmt.Fprintln(&b, e)
	}
	name := filepath.Join(a.LogDir, "active")
	err := os.MkdirAll(a.LogDir, 0o755)
	if err == nil {
		err = os.WriteFile(name+".tmp", []byte(b.String()), 0o640)
	}
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		a.Log.Warn("list of active tasks not written", "err", err)
	}
}
