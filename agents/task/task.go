// Package task runs one-shot work that was asked for by a file.
//
// A request is a file in nodes/NODE/tasks with lines "key: value": type, id,
// user, and parameters. The agent of that node claims it by renaming it to its
// UPID, runs the handler of its type, keeps the log, and appends "status" and
// "endtime" to the file. Any node can ask any node.
//
// A line "stop: 1" in the file of a running task ends it, as does "time-limit:
// SECONDS" when they are over, or the removal of the file.
//
// It owns that directory's files after they were claimed, the log of each task
// and the index of logs. It knows no type of task by itself and never runs a
// task twice: one whose agent died is cleaned up after, and then recorded as
// interrupted.
package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"etcpve/agents/host"
	"etcpve/agents/reconcile"
	"etcpve/cfs/format/upid"
)

// keepEnded is how long the file of a finished task stays, so that whoever
// asked can read how it ended. The log stays longer.
const keepEnded = 15 * time.Minute

// maxTasks is how many tasks a node works on at the same time. Most of them
// wait for guests and disks.
const maxTasks = 256

// DefaultUser is who asked, where a request does not say.
const DefaultUser = "root@pam"

// A Handler does the work of one type of task. What it writes to log is the
// task's log, its error the task's end.
type Handler func(ctx context.Context, r Request, log *Log) error

// Options say where tasks are asked for and who does them. All but LogDir are required.
type Options struct {
	Tree     string
	Node     string
	LogDir   string // default upid.LogDir
	Handlers map[string]Handler

	// Repairs clean up after tasks whose agent died, or bring them to their end,
	// by type. One that fails is tried again. They may be called twice, and for a
	// task that had not done anything yet.
	Repairs map[string]Handler

	SilentAfter time.Duration // for how long a node may not answer; default a minute
	Log         *slog.Logger
}

// An Agent runs the tasks of one node.
type Agent struct {
	Options
	self  host.Process
	since int64 // when this agent was made

	mu     sync.Mutex         // guards all below, and the file of active tasks
	seen   map[string]bool    // tasks this process has begun
	ended  map[string]outcome // those of them whose end is not recorded yet
	recent []entry            // those that run, and those that ended last
}

// New prepares an agent.
func New(o Options) (*Agent, error) {
	if o.LogDir == "" {
		o.LogDir = upid.LogDir
	}
	self, err := host.Proc.Find(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	a := &Agent{Options: o, self: self, since: time.Now().Unix(), seen: map[string]bool{}, ended: map[string]outcome{}}
	a.recent = readActive(o.LogDir)
	return a, nil
}

// Dir is where requests to a node go, relative to the tree.
func Dir(node string) string { return "nodes/" + node + "/tasks" }

// Loop returns the loop of the agent.
func (a *Agent) Loop() *reconcile.Loop {
	return reconcile.New(a, reconcile.Options{
		Name: "task", Tree: a.Tree, Node: a.Node, Log: a.Log, Parallel: maxTasks,
		Watches: []reconcile.Watch{{Dir: Dir(a.Node), Key: func(name string) (string, bool) {
			return name, !strings.HasPrefix(name, ".")
		}}},
	})
}

// Run works until ctx ends, which handlers see too.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { a.watchNodes(ctx) })
	defer others.Wait()
	defer cancel()
	return a.Loop().Run(ctx)
}

// A Step is a kind of action.
type Step string

// The life of a task.
const (
	Claim     Step = "claim"
	Begin     Step = "run"
	Record    Step = "record the end of"
	Interrupt Step = "record as interrupted"
	Refuse    Step = "refuse"
	Remove    Step = "remove"
)

// An Action is one step of one task.
type Action struct {
	Step   Step
	File   File
	Reason string
}

// String is the action as it is printed and logged.
func (a Action) String() string {
	text := string(a.Step) + " " + a.File.Request.Type + " " + a.File.Request.ID
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	return strings.TrimSpace(text)
}

// State is what the node knows of a task.
type State struct {
	Begun bool // by this process
	Ended bool // and has come to its end
	Alive bool // the agent that claimed it still runs, though it is another one
	Now   time.Time
}

// Desired reads the file of a task.
func (a *Agent) Desired(_ context.Context, key string) (File, error) {
	path := a.path(key)
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return File{}, nil
	}
	if err != nil {
		return File{}, fmt.Errorf("task %s: %w", key, err)
	}
	f := parseFile(key, string(text))
	if info, err := os.Stat(path); err == nil {
		f.Written = info.ModTime()
	}
	return f, nil
}

// Observe tells whether this process has begun the task.
func (a *Agent) Observe(_ context.Context, key string) (State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ended := a.ended[key]
	s := State{Begun: a.seen[key], Ended: ended, Now: time.Now()}
	if id, err := upid.Parse(key); err == nil && !a.mine(id) && int(id.PID) != a.self.PID {
		s.Alive = host.Proc.Alive(host.Process{PID: int(id.PID), Start: id.PStart})
	}
	return s, nil
}

// Plan decides the next step of a task.
func (a *Agent) Plan(f File, s State) []Action {
	switch {
	case f.Name == "":
		return nil
	case f.Status != "" && !f.silenced():
		if s.Now.Sub(f.Written) >= keepEnded {
			return []Action{{Step: Remove, File: f}}
		}
		return nil
	case f.UPID != (upid.UPID{}):
		return a.planClaimed(f, s)
	}
	if reason := a.refusal(f.Request); reason != "" {
		return []Action{{Step: Refuse, File: f, Reason: reason}}
	}
	return []Action{{Step: Claim, File: f}}
}

func (a *Agent) planClaimed(f File, s State) []Action {
	switch {
	case a.mine(f.UPID) && !s.Begun:
		return []Action{{Step: Begin, File: f}}
	case s.Ended:
		return []Action{{Step: Record, File: f}}
	case !a.mine(f.UPID) && !s.Alive:
		return []Action{{Step: Interrupt, File: f}}
	}
	return nil
}

// mine reports whether this agent has claimed a task. After a boot it may have
// the number and even the start of the one before it, but not its time.
func (a *Agent) mine(id upid.UPID) bool {
	return int(id.PID) == a.self.PID && id.PStart == a.self.Start && id.StartTime >= a.since
}

// refusal says why a request cannot become a task.
func (a *Agent) refusal(r Request) string {
	switch {
	case r.Type == "":
		return "no type given"
	case a.Handlers[r.Type] == nil:
		return fmt.Sprintf("type: no task is called %q", r.Type)
	}
	if _, err := upid.Parse(a.identify(r, 0).String()); err != nil {
		return "id or user cannot be part of a task identifier"
	}
	return ""
}

func (a *Agent) identify(r Request, when int64) upid.UPID {
	return upid.UPID{
		Node: a.Node, PID: uint32(a.self.PID), PStart: a.self.Start, StartTime: when, Type: r.Type, ID: r.ID, User: r.User,
	}
}

// Apply carries out one step.
func (a *Agent) Apply(ctx context.Context, key string, action Action) error {
	switch action.Step {
	case Claim:
		return a.claim(action.File)
	case Begin:
		return a.begin(ctx, action.File)
	case Record:
		return a.record(ctx, action.File)
	case Interrupt:
		return a.repair(ctx, action.File)
	case Refuse:
		return a.end(action.File, action.Reason)
	}
	if err := os.Remove(a.path(key)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("task %s: %w", key, err)
	}
	a.hide(key)
	return nil
}

// Report asks to be called again when an ended task's file is old enough to go.
func (a *Agent) Report(_ string, f File, s State, _ error) reconcile.Report {
	switch {
	case s.Alive:
		return reconcile.Report{Again: time.Second}
	case f.Status == "":
		return reconcile.Report{}
	}
	return reconcile.Report{Again: max(time.Second, keepEnded-s.Now.Sub(f.Written))}
}

// claim renames a request to its UPID. Requests for the same work in one second
// differ by a second in their names. They are claimed at the same time, so a
// rename must not replace: the request that another was claimed over is lost.
func (a *Agent) claim(f File) error {
	for when := time.Now().Unix(); ; when++ {
		name := a.identify(f.Request, when).String()
		err := unix.Renameat2(unix.AT_FDCWD, a.path(f.Name), unix.AT_FDCWD, a.path(name), unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
		case err == nil, errors.Is(err, unix.ENOENT): // withdrawn
			return nil
		default:
			return fmt.Errorf("task %s: claim: %w", f.Name, err)
		}
	}
}

func (a *Agent) path(name string) string { return filepath.Join(a.Tree, Dir(a.Node), name) }

var _ reconcile.Agent[File, State, Action] = (*Agent)(nil)

// keys of a task file that are not parameters.
var reserved = []string{"type", "id", "user", "status", "endtime", "stop", "time-limit"}

func isParameter(key string) bool { return !slices.Contains(reserved, key) }
