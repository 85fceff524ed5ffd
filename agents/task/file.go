package task

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/format/upid"
)

// A Request asks for a task.
type Request struct {
	Type   string
	ID     string // what it works on; may be empty
	User   string // who asked; default DefaultUser
	Params map[string]string
}

// A File is the file of a task: a request, or a task that was claimed.
type File struct {
	Name    string // "" if it is not there
	UPID    upid.UPID
	Request Request
	Status  string // how it ended; "" while it has not
	Stop    bool   // somebody wants it to end
	Limit   int    // seconds it may take; 0 for no limit
	Written time.Time
}

// silenced reports whether another node took this one for dead, and so does not
// know how the task ended.
func (f File) silenced() bool { return strings.HasPrefix(f.Status, unknown) }

func parseFile(name, text string) File {
	f := File{Name: name, Request: Request{User: DefaultUser, Params: map[string]string{}}}
	if id, err := upid.Parse(name); err == nil {
		f.UPID = id
	}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		switch value = strings.TrimSpace(value); key {
		case "type":
			f.Request.Type = value
		case "id":
			f.Request.ID = value
		case "user":
			f.Request.User = value
		case "status":
			f.Status = value
		case "stop":
			f.Stop = value != "" && value != "0"
		case "time-limit":
			f.Limit, _ = strconv.Atoi(value) // 0, which is none, for what is no number
		default:
			if isParameter(key) {
				f.Request.Params[key] = unescape.Replace(value)
			}
		}
	}
	return f
}

// String is the request as a file.
func (r Request) String() string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, escape.Replace(value))
		}
	}
	line("type", r.Type)
	line("id", r.ID)
	line("user", r.User)
	for _, key := range slices.Sorted(maps.Keys(r.Params)) {
		line(key, r.Params[key])
	}
	return b.String()
}

// escaping keeps a value on its line.
var (
	escape   = strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D")
	unescape = strings.NewReplacer("%25", "%", "%0A", "\n", "%0D", "\r")
)
