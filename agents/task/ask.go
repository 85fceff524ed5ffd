package task

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// askPoll is how often the file of a task that is waited for is looked at.
const askPoll = 50 * time.Millisecond

// claimWait is how long a request may lie before nobody is taken to be there.
const claimWait = 30 * time.Second

// maxMissed is how often in a row a request may be neither there nor claimed: a
// directory that is read while a file is renamed may show neither name.
const maxMissed = 4

// requestKey names the parameter by which a task is recognised once its
// request was renamed.
const requestKey = "request"

// An Asking is one wish and how it is followed.
type Asking struct {
	Tree, Node string
	LogDir     string            // of the logs, if Node is this node; else what Node shows of the log is followed
	Line       func(line string) // gets each line of the log but the last one; nil does not follow it
}

// Ask has a task done by a node and waits for its end.
func Ask(ctx context.Context, tree, node string, r Request) error {
	return Asking{Tree: tree, Node: node}.Do(ctx, r)
}

// Do has the task done and waits for its end. When ctx ends first, a request
// that nobody has claimed is withdrawn, and a task that runs is stopped.
func (a Asking) Do(ctx context.Context, r Request) error {
	name, err := a.drop(r)
	if err != nil {
		return fmt.Errorf("task %s: %w", r.Type, err)
	}
	dir := filepath.Join(a.Tree, Dir(a.Node))
	var log follower
	for asked, seen, missed := time.Now(), time.Now(), 0; ; {
		f, err := findRequest(dir, name, log.claimed)
		switch away := a.away(err); {
		case err != nil && (!away || time.Since(seen) > awayWait):
			return fmt.Errorf("task %s: %w", r.Type, err)
		case away: // the task goes on meanwhile
			if err := pause(ctx); err != nil {
				return fmt.Errorf("task %s: %w", r.Type, err)
			}
			continue
		}
		seen = time.Now()
		if a.follow(&log, f); f.Name != "" {
			missed = 0
		}
		if f.Status != "" && !f.silenced() {
			a.rest(ctx, &log)
		}
		switch {
		case fine(f.Status):
			return nil
		case f.silenced() && a.LogDir != "": // this node is back, and knows better
		case f.Status != "":
			return errors.New(f.Status)
		case f.Name == "" && missed == maxMissed:
			return fmt.Errorf("task %s: its file was removed", r.Type)
		case f.Name == "":
			missed++
		case log.claimed == "" && time.Since(asked) > claimWait:
			err := errors.Join(errors.New("nobody has claimed it; is pveagent running on node "+a.Node+"?"), withdraw(dir, name))
			return fmt.Errorf("task %s: %w", r.Type, err)
		}
		select {
		case <-time.After(askPoll):
		case <-ctx.Done():
			// Nobody may do later what was given up.
			return fmt.Errorf("task %s: %w", r.Type, errors.Join(ctx.Err(), giveUp(dir, name, log.claimed)))
		}
	}
}

// awayWait is how long the tree may be away while a task is waited for.
const awayWait = time.Minute

// away reports whether a failure is that of a tree whose daemon has ended.
func (a Asking) away(err error) bool {
	if err == nil {
		return false
	}
	_, e := os.Stat(filepath.Join(a.Tree, Dir(a.Node)))
	return lost(err) || e != nil
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(askPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drop puts a request where the node finds it, and returns its name.
func (a Asking) drop(r Request) (string, error) {
	name := "request-" + rand.Text()
	if r.Params = maps.Clone(r.Params); r.Params == nil {
		r.Params = map[string]string{}
	}
	r.Params[requestKey] = name
	dir := filepath.Join(a.Tree, Dir(a.Node))
	// Through a name that is not watched, so that nobody claims half a request.
	draft := filepath.Join(dir, fmt.Sprintf("%s.tmp.%d", name, os.Getpid()))
	if err := os.WriteFile(draft, []byte(r.String()), 0o640); err != nil {
		return "", err
	}
	if err := os.Rename(draft, filepath.Join(dir, name)); err != nil {
		return "", errors.Join(err, os.Remove(draft))
	}
	return name, nil
}

// giveUp takes back a request, or asks for the end of what it became.
func giveUp(dir, name, claimed string) error {
	if claimed == "" {
		return withdraw(dir, name)
	}
	return stop(filepath.Join(dir, claimed))
}

func withdraw(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// stop asks for the end of a task by a line in its file.
func stop(path string) error {
	if err := appendTo(path, "stop: 1\n"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// findRequest returns the file that a request is by now.
func findRequest(dir, name, claimed string) (File, error) {
	if claimed != "" {
		text, err := os.ReadFile(filepath.Join(dir, claimed))
		if os.IsNotExist(err) {
			err = errors.New("its file was removed")
		}
		return parseFile(claimed, string(text)), err
	}
	return find(dir, requestKey, name)
}

func find(dir, key, value string) (File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return File{}, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // renamed or removed meanwhile
		}
		if f := parseFile(e.Name(), string(text)); f.Request.Params[key] == value {
			return f, nil
		}
	}
	return File{}, nil
}

// Find returns the file of the task of a node that has a parameter with a value;
// it has no name if there is none.
func Find(tree, node, key, value string) (File, error) {
	return find(filepath.Join(tree, Dir(node)), key, value)
}

// A follower remembers how much of a task's log was seen.
type follower struct {
	claimed string // name of the task's file
	read    int64
	rest    string // a line whose end has not come yet
	lines   int    // that another node has shown
}

// follow passes on what is new in the log of a task.
func (a Asking) follow(log *follower, f File) {
	if f.UPID.Type == "" {
		return
	}
	log.claimed = f.Name
	if a.LogDir == "" || a.Line == nil {
		a.followTale(log)
		return
	}
	file, err := os.Open(logPath(a.LogDir, f.UPID))
	if err != nil {
		return // not begun yet
	}
	defer file.Close()
	text, _ := io.ReadAll(io.NewSectionReader(file, log.read, 1<<62)) // what cannot be read is not shown
	log.read += int64(len(text))
	log.rest += string(text)
	for {
		line, rest, ok := strings.Cut(log.rest, "\n")
		if !ok {
			return
		}
		if log.rest = rest; !strings.HasPrefix(line, "TASK ") {
			a.Line(line)
		}
	}
}

// followTale passes on what is new in what another node shows of a log.
func (a Asking) followTale(log *follower) (over bool) {
	if a.Line == nil {
		return true
	}
	t, err := readTale(a.Tree, a.Node, log.claimed)
	if err != nil {
		return false
	}
	if t.first > log.lines+1 {
		a.Line("...") // more came than is shown
		log.lines = t.first - 1
	}
	for i, line := range t.lines {
		if t.first+i > log.lines && !strings.HasPrefix(line, "TASK ") {
			a.Line(line)
		}
	}
	log.lines = max(log.lines, t.first+len(t.lines)-1)
	return t.over
}

// restWait is how long the end of a log may come after the end of its task.
const restWait = 3 * time.Second

// rest waits for the end of a log that another node shows.
func (a Asking) rest(ctx context.Context, log *follower) {
	if a.LogDir != "" || log.claimed == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, restWait)
	defer cancel()
	for !a.followTale(log) {
		select {
		case <-time.After(askPoll):
		case <-ctx.Done():
			return
		}
	}
}
