package task

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	Written time.Time
	text    string
}

func parseFile(name, text string) File {
	f := File{Name: name, text: text, Request: Request{User: DefaultUser, Params: map[string]string{}}}
	if text != "" && !strings.HasSuffix(text, "\n") {
		f.text += "\n"
	}
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
		default:
			if isParameter(key) {
				f.Request.Params[key] = value
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
			fmt.Fprintf(&b, "%s: %s\n", key, strings.ReplaceAll(value, "\n", " "))
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

// askPoll is how often the file of a task that is waited for is looked at.
const askPoll = 50 * time.Millisecond

// requestKey names the parameter by which Ask recognises its task once it was
// renamed.
const requestKey = "request"

// Ask has a task done by a node and waits for its end.
func Ask(ctx context.Context, tree, node string, r Request) error {
	name := "request-" + rand.Text()
	if r.Params = maps.Clone(r.Params); r.Params == nil {
		r.Params = map[string]string{}
	}
	r.Params[requestKey] = name
	dir := filepath.Join(tree, Dir(node))
	// Through a name that is not watched, so that nobody claims half a request.
	draft := filepath.Join(dir, fmt.Sprintf("%s.tmp.%d", name, os.Getpid()))
	if err := os.WriteFile(draft, []byte(r.String()), 0o640); err != nil {
		return fmt.Errorf("task %s: %w", r.Type, err)
	}
	if err := os.Rename(draft, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("task %s: %w", r.Type, errors.Join(err, os.Remove(draft)))
	}
	for {
		switch f, err := findRequest(dir, name); {
		case err != nil:
			return fmt.Errorf("task %s: %w", r.Type, err)
		case f.Status == "OK" || strings.HasPrefix(f.Status, "WARNINGS"):
			return nil
		case f.Status != "":
			return errors.New(f.Status)
		}
		select {
		case <-time.After(askPoll):
		case <-ctx.Done():
			// Nobody may do later what was given up.
			return fmt.Errorf("task %s: %w", r.Type, errors.Join(ctx.Err(), withdraw(dir, name)))
		}
	}
}

func withdraw(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// findRequest returns the file that a request is by now.
func findRequest(dir, name string) (File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return File{}, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // renamed or removed meanwhile
		}
		if f := parseFile(e.Name(), string(text)); f.Request.Params[requestKey] == name {
			return f, nil
		}
	}
	return File{}, nil
}
