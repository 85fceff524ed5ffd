package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/cfs/format/upid"
)

// Why a task ends before its work is done.
var (
	errStopped = errors.New("stopped as asked")
	errRemoved = errors.New("stopped: its file was removed")
	errLimit   = errors.New("got timeout")
	errAgent   = errors.New("interrupted: its agent was stopped")
)

// stopPoll is how often the file of a running task is looked at.
const stopPoll = 500 * time.Millisecond

// begin runs a task to its end. Its failure is recorded, not returned: it is
// the task's, not the agent's.
func (a *Agent) begin(ctx context.Context, f File) error {
	a.mu.Lock()
	a.seen[f.Name] = true
	a.mu.Unlock()
	log, err := openLog(a.LogDir, f.UPID)
	if err != nil {
		return a.end(f, err.Error())
	}
	log.keep = func(key, value string) error { return a.keep(f.Name, key, value) }
	a.note(entry{id: f.UPID})
	work, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watch(work, f, cancel)
	}()
	err = a.Handlers[f.Request.Type](work, f.Request, log)
	switch cause := context.Cause(work); {
	case ctx.Err() != nil:
		err = errAgent
	case cause != nil && err != nil:
		err = cause
	}
	cancel(nil)
	<-watched
	return a.end(f, log.finish(err))
}

// watch ends a task that is to end.
func (a *Agent) watch(ctx context.Context, f File, end context.CancelCauseFunc) {
	poll := time.NewTicker(stopPoll)
	defer poll.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		text, err := os.ReadFile(a.path(f.Name))
		now := parseFile(f.Name, string(text))
		switch {
		case os.IsNotExist(err) && a.present():
			end(errRemoved)
		case err != nil: // a file system that is away for a moment says nothing
		case now.Stop:
			end(errStopped)
		case now.Limit > 0 && time.Since(began) > time.Duration(now.Limit)*time.Second:
			end(errLimit)
		}
	}
}

// present reports whether the directory of tasks can be seen.
func (a *Agent) present() bool {
	_, err := os.Stat(filepath.Join(a.Tree, Dir(a.Node)))
	return err == nil
}

// repair cleans up after a task whose agent died.
func (a *Agent) repair(ctx context.Context, f File) error {
	const status = "interrupted: its agent ended"
	work := a.Repairs[f.Request.Type]
	if work == nil {
		return a.end(f, status)
	}
	log, err := openLog(a.LogDir, f.UPID)
	if err != nil {
		return fmt.Errorf("task %s: %w", f.Name, err)
	}
	log.keep = func(key, value string) error { return a.keep(f.Name, key, value) }
	if err := work(ctx, f.Request, log); err != nil {
		log.Printf("cleaning up: %s", err)
		_ = log.file.Close() // the next try says it again
		return fmt.Errorf("task %s: clean up: %w", f.Name, err)
	}
	return a.end(f, log.finish(errors.New(status)))
}

// keep sets a parameter in the file of a task.
func (a *Agent) keep(name, key, value string) error {
	text, err := os.ReadFile(a.path(name))
	if err != nil {
		return fmt.Errorf("task %s: %w", name, err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, key+":") {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", key, escape.Replace(value))
	return a.write(name, b.String())
}

// write replaces the file of a task at once.
func (a *Agent) write(name, text string) error {
	draft := a.path(name) + fmt.Sprintf(".tmp.%d", os.Getpid())
	if err := os.WriteFile(draft, []byte(text), 0o640); err != nil {
		return fmt.Errorf("task %s: %w", name, err)
	}
	if err := os.Rename(draft, a.path(name)); err != nil {
		return fmt.Errorf("task %s: %w", name, errors.Join(err, os.Remove(draft)))
	}
	return nil
}

// end appends the outcome to the file of a task, and to the index of logs.
func (a *Agent) end(f File, status string) error {
	status = strings.ReplaceAll(strings.TrimSpace(status), "\n", " ")
	now := time.Now().Unix()
	text, err := os.ReadFile(a.path(f.Name))
	switch {
	case os.IsNotExist(err): // removed while it ran: nobody waits for the outcome
	case err != nil:
		return fmt.Errorf("task %s: %w", f.Name, err)
	default:
		head := string(text)
		if head != "" && !strings.HasSuffix(head, "\n") {
			head += "\n"
		}
		if err := a.write(f.Name, head+fmt.Sprintf("status: %s\nendtime: %d\n", status, now)); err != nil {
			return err
		}
	}
	if f.UPID == (upid.UPID{}) {
		return nil
	}
	a.note(entry{id: f.UPID, end: now, status: status})
	return appendIndex(a.LogDir, f.UPID, now, status)
}
