package reconcile

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// statusDir holds, at the path of a file, what the agents say of it.
const statusDir = ".status"

// A State is the first line of a status document.
type State string

// The states of a file.
const (
	Applied  State = "applied" // the machine is as the file says
	Deferred State = "pending" // part of the file waits, each with a reason
	Failed   State = "failed"  // part of the file could not be applied
)

// timeForm is RFC 3339 with milliseconds.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// A Publisher writes status documents. It writes nothing when the tree has no
// place for them, as a plain directory has not.
type Publisher struct{ Tree, Node string }

// Publish says what came of a run, unless that is said already. A failure is
// said each time, with its time: whoever asked for another try can tell that it
// was made.
func (p Publisher) Publish(r Report, err error) error {
	if r.Path == "" {
		return nil
	}
	dir := filepath.Join(p.Tree, statusDir)
	if _, e := os.Stat(dir); e != nil {
		return nil
	}
	path := filepath.Join(dir, r.Path)
	if r.Content == nil {
		if e := os.Remove(path); e != nil && !os.IsNotExist(e) {
			return e
		}
		return nil
	}
	text := p.document(r, err, time.Now())
	old, e := os.ReadFile(path)
	if e == nil && err == nil && lasting(string(old)) == lasting(text) {
		return nil
	}
	if e != nil {
		// The file system makes the directories itself; a plain directory needs them made.
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	return os.WriteFile(path, []byte(text), 0o640)
}

func (p Publisher) document(r Report, err error, now time.Time) string {
	var b strings.Builder
	line := func(key, value string) {
		fmt.Fprintf(&b, "%s: %s\n", key, strings.ReplaceAll(value, "\n", " "))
	}
	line("state", string(stateOf(r, err)))
	line("digest", fmt.Sprintf("%x", sha1.Sum(r.Content)))
	line("node", p.Node)
	line("time", now.UTC().Format(timeForm))
	for _, l := range r.Lines {
		line(l.Key, l.Value)
	}
	for _, pending := range r.Pending {
		line("pending", pending.Key+": "+pending.Reason)
	}
	if err != nil {
		// Joined errors are separate lines of one text.
		for text := range strings.SplitSeq(err.Error(), "\n") {
			line("error", text)
		}
	}
	return b.String()
}

func stateOf(r Report, err error) State {
	switch {
	case err != nil:
		return Failed
	case len(r.Pending) > 0:
		return Deferred
	}
	return Applied
}

// lasting is a document without the lines that differ though nothing happened.
func lasting(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "time: ") && !strings.HasPrefix(line, "version: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
