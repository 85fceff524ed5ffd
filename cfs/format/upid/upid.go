// Package upid reads and writes task identifiers and the outcome of a task.
//
// It owns the form UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER:, the place of
// a task's log and the meaning of the log's last line. It never opens a file.
package upid

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A UPID identifies a task of the cluster.
type UPID struct {
	Node      string
	PID       uint32
	PStart    uint64 // start of the process in clock ticks since boot
	StartTime int64  // Unix time
	Type      string
	ID        string // what the task works on; may be empty
	User      string
}

var form = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

// Parse reads a task identifier.
func Parse(s string) (UPID, error) {
	m := form.FindStringSubmatch(s)
	if m == nil {
		return UPID{}, fmt.Errorf("unable to parse worker upid '%s'", s)
	}
	u := UPID{Node: m[1], Type: m[5], ID: m[6], User: m[7]}
	for i, set := range []func(uint64){
		func(n uint64) { u.PID = uint32(n) },
		func(n uint64) { u.PStart = n },
		func(n uint64) { u.StartTime = int64(n) },
	} {
		n, err := strconv.ParseUint(m[i+2], 16, 40)
		if err != nil {
			return UPID{}, fmt.Errorf("upid '%s': %w", s, err)
		}
		set(n)
	}
	return u, nil
}

// String returns the task identifier.
func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", u.Node, u.PID, u.PStart, u.StartTime, u.Type, u.ID, u.User)
}

// LogDir is where the logs of tasks are kept on their node.
const LogDir = "/var/log/pve/tasks"

// LogPath returns the place of the task's log. Logs are spread over sixteen
// directories by the last digit of the start time.
func (u UPID) LogPath() string {
	return fmt.Sprintf("%s/%X/%s", LogDir, u.StartTime&15, u)
}

var statusLine = regexp.MustCompile(`^TASK (?:(OK)|ERROR: (.+)|(WARNINGS: \d+))$`)

// Status returns the outcome of a task from the end of its log: "OK", the
// error, or "WARNINGS: N". A task that is still running, or was killed, has
// left none of these: "unexpected status".
func Status(log string) string {
	log = strings.TrimSuffix(log, "\n")
	m := statusLine.FindStringSubmatch(log[strings.LastIndexByte(log, '\n')+1:])
	if m == nil {
		return "unexpected status"
	}
	return m[1] + m[2] + m[3]
}
