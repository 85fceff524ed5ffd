package reconcile

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Document is what agents say of a file, as it is read again.
type Document struct {
	State   State // empty where nothing is said
	Time    time.Time
	Pending []Pending
	Errors  []string
	lines   []Line
}

// Read returns what is said of the file at path; it is empty where there is nothing.
func Read(tree, path string) Document {
	text, err := os.ReadFile(filepath.Join(tree, statusDir, path))
	if err != nil {
		return Document{}
	}
	return ParseDocument(string(text))
}

// ParseDocument reads the text of a status document. What it does not understand
// is left out.
func ParseDocument(text string) (d Document) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !ok:
		case key == "state":
			d.State = State(value)
		case key == "time":
			d.Time, _ = time.Parse(time.RFC3339, value) // the zero time is older than any wish
		case key == "pending":
			name, reason, _ := strings.Cut(value, ": ")
			d.Pending = append(d.Pending, Pending{name, reason})
		case key == "error":
			d.Errors = append(d.Errors, value)
		default:
			d.lines = append(d.lines, Line{key, value})
		}
	}
	return d
}

// Value returns what an agent says under a key of its own.
func (d Document) Value(key string) string {
	for _, l := range d.lines {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}
