package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	away := err != nil && (!a.writable() || lost(err))
	switch cause := context.Cause(work); {
	case ctx.Err() != nil:
		err = errAgent
	case cause != nil && err != nil:
		err = cause
	}
	cancel(nil)
	<-watched
	status := log.finish(err)
	a.show(f, &shown{}, status)
	a.mu.Lock()
	a.ended[f.Name] = outcome{status: status, unfinished: away && a.Repairs[f.Request.Type] != nil}
	a.mu.Unlock()
	return a.record(ctx, f)
}

// An outcome is how a task has ended that is not recorded yet.
type outcome struct {
	status     string
	unfinished bool // it could not clean up: the tree was away, or without quorum
}

// record writes down how a task has ended, once the tree can take it. What it
// could not clean up is cleaned up first, as after a crash.
func (a *Agent) record(ctx context.Context, f File) error {
	a.mu.Lock()
	o, ok := a.ended[f.Name]
	a.mu.Unlock()
	if !ok {
		return nil
	}
	if !a.writable() {
		return fmt.Errorf("task %s: %w", f.Name, errAway)
	}
	if o.unfinished {
		if err := a.tidy(ctx, f); err != nil {
			return err
		}
	}
	if err := a.end(f, o.status); err != nil {
		return err
	}
	a.mu.Lock()
	delete(a.ended, f.Name)
	a.mu.Unlock()
	return nil
}

// errAway says why a task's end is not recorded yet.
var errAway = errors.New("the cluster file system is away or has no quorum")

// lost reports whether a failure is that of a file system whose daemon ended.
func lost(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// writable reports whether the tree is there and takes changes. Without quorum
// it shows no write bits.
func (a *Agent) writable() bool {
	info, err := os.Stat(filepath.Join(a.Tree, Dir(a.Node)))
	return err == nil && info.Mode().Perm()&0o222 != 0
}

// watch ends a task that is to end.
func (a *Agent) watch(ctx context.Context, f File, end context.CancelCauseFunc) {
	poll := time.NewTicker(stopPoll)
	defer poll.Stop()
	began := time.Now()
	var said shown
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		a.show(f, &said, "")
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
	if a.Repairs[f.Request.Type] == nil {
		return a.end(f, status)
	}
	if err := a.tidy(ctx, f); err != nil {
		return err
	}
	log, err := openLog(a.LogDir, f.UPID)
	if err != nil {
		return fmt.Errorf("task %s: %w", f.Name, err)
	}
	return a.end(f, log.finish(errors.New(status)))
}

// tidy runs the repair of a task.
func (a *Agent) tidy(ctx context.Context, f File) error {
	log, err := openLog(a.LogDir, f.UPID)
	if err != nil {
		return fmt.Errorf("task %s: %w", f.Name, err)
	}
	defer log.file.Close()
	log.keep = func(key, value string) error { return a.keep(f.Name, key, value) }
	// What the task noted of its work is in its file.
	text, err := os.ReadFile(a.path(f.Name))
	if errors.Is(err, os.ErrNotExist) && a.present() { // removed to stop it
		text, err = []byte(f.Request.String()), nil
	}
	if err == nil {
		err = a.Repairs[f.Request.Type](ctx, parseFile(f.Name, string(text)).Request, log)
	}
	if err != nil {
		log.Printf("cleaning up: %s", err)
		return fmt.Errorf("task %s: clean up: %w", f.Name, err)
	}
	return nil
}

// keep sets a parameter in the file of a task: of a key that is there more than
// once, the last line counts.
func (a *Agent) keep(name, key, value string) error {
	return appendTo(a.path(name), fmt.Sprintf("%s: %s\n", key, escape.Replace(value)))
}

// appendTo adds lines to the file of a task. Others may do so at the same time,
// on other nodes too: so the file is never written anew.
func appendTo(path, lines string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("task %s: %w", filepath.Base(path), err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' { // a request without an end of line
		lines = "\n" + lines
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("task %s: %w", filepath.Base(path), err)
	}
	_, err = f.WriteString(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("task %s: %w", filepath.Base(path), err)
	}
	return nil
}

// end appends the outcome to the file of a task, and to the index of logs.
func (a *Agent) end(f File, status string) error {
	status = strings.ReplaceAll(strings.TrimSpace(status), "\n", " ")
	now := time.Now().Unix()
	err := appendTo(a.path(f.Name), fmt.Sprintf("status: %s\nendtime: %d\n", status, now))
	// One that was removed while it ran has nobody waiting for its outcome.
	if err != nil && !(errors.Is(err, os.ErrNotExist) && a.present()) {
		return err
	}
	if f.UPID == (upid.UPID{}) {
		return nil
	}
	a.note(entry{id: f.UPID, end: now, status: status})
	return appendIndex(a.LogDir, f.UPID, now, status)
}
