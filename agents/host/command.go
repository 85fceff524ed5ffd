// Package host is an agent's door to its machine: run a command, start a
// process that outlives the agent, ask /proc.
//
// It owns how commands are run (an argument vector, limits, an error that tells
// what the command said) and how a process is told from a later one with the
// same number. It never passes anything through a shell, and never decides what
// to run.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Limits of what is kept of a command's output.
const (
	maxOutput = 16 << 20 // bytes of standard output; more is an error
	maxTail   = 4 << 10  // bytes of the end of standard error, for the error text
)

// waitDelay is how long a killed command's descendants may keep its pipes open.
const waitDelay = 2 * time.Second

// A Command is a program with its arguments. Argv[0] is looked up in PATH.
type Command struct {
	Argv  []string
	Stdin []byte
	Env   []string // added to the agent's own environment
	Dir   string

	// For what is too large to be kept: read instead of Stdin, and written with
	// standard output instead of returning it.
	Input  io.Reader
	Output io.Writer
}

// String shows the command for a person, quoted where it has to be.
func (c Command) String() string {
	words := make([]string, len(c.Argv))
	for i, arg := range c.Argv {
		words[i] = Quote(arg)
	}
	return strings.Join(words, " ")
}

// Quote returns arg as a shell would need it written. Nothing here runs a
// shell: the form is for people who want to repeat a command.
func Quote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,+@%", r)
	}
	if arg != "" && strings.IndexFunc(arg, func(r rune) bool { return !plain(r) }) < 0 {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'"'"'`) + "'"
}

// An ExitError says that a command ran and failed.
type ExitError struct {
	Command Command
	Code    int    // exit status, or -1 when a signal ended it
	Stderr  string // the end of what it wrote to standard error
	State   string // "exit status 1", "signal: killed"
}

func (e *ExitError) Error() string {
	if said := strings.TrimSpace(e.Stderr); said != "" {
		return fmt.Sprintf("%s: %s: %s", e.Command.Argv[0], e.State, said)
	}
	return fmt.Sprintf("%s: %s", e.Command.Argv[0], e.State)
}

// System runs commands on this machine.
type System struct{}

// Run runs c to its end and returns its standard output. When ctx ends first,
// the command is killed. A command that fails gives an *ExitError.
// It never outlives the agent, even one that is killed: the next agent looks at
// what is there, and nobody may still be changing that.
func (System) Run(ctx context.Context, c Command) ([]byte, error) {
	stdout, stderr := &capped{limit: maxOutput}, &tail{limit: maxTail}
	cmd := c.build(ctx)
	cmd.Stdin = strings.NewReader(string(c.Stdin))
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if c.Input != nil {
		cmd.Stdin = c.Input
	}
	if c.Output != nil {
		cmd.Stdout = c.Output
	}
	// The kernel means the thread that starts it, which is kept for that long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return stdout.kept, fmt.Errorf("%s: %w", c.Argv[0], ctx.Err())
	case errors.As(err, &exit):
		return stdout.kept, &ExitError{Command: c, Code: exit.ExitCode(), Stderr: string(stderr.kept), State: exit.String()}
	case err != nil:
		return stdout.kept, fmt.Errorf("%s: %w", c.Argv[0], err)
	case stdout.over:
		return stdout.kept, fmt.Errorf("%s: more than %d bytes of output", c.Argv[0], maxOutput)
	}
	return stdout.kept, nil
}

func (c Command) build(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.WaitDelay = waitDelay
	// Its own group, so that Ctrl-C at the agent's terminal does not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// A Detached is a process that does not end with the agent.
type Detached struct {
	Process
	cmd *exec.Cmd
}

// Start starts c in a process group and terminal line of its own, with its
// output going to the file named log. While the agent lives, Wait must be
// called, else the process stays a zombie when it ends.
func (System) Start(c Command, log string) (*Detached, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Argv[0], err)
	}
	defer out.Close()
	cmd := c.build(context.Background())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Argv[0], err)
	}
	p, err := Proc.Find(cmd.Process.Pid)
	if err != nil {
		// It has ended already, which Wait tells.
		p = Process{PID: cmd.Process.Pid}
	}
	return &Detached{Process: p, cmd: cmd}, nil
}

// Wait returns when the process has ended.
func (d *Detached) Wait() error { return d.cmd.Wait() }

// capped keeps the first limit bytes.
type capped struct {
	kept  []byte
	limit int
	over  bool
}

func (w *capped) Write(p []byte) (int, error) {
	room := w.limit - len(w.kept)
	w.over = w.over || len(p) > room
	w.kept = append(w.kept, p[:min(room, len(p))]...)
	return len(p), nil
}

// tail keeps the last limit bytes.
type tail struct {
	kept  []byte
	limit int
}

func (w *tail) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p...)
	if over := len(w.kept) - w.limit; over > 0 {
		w.kept = append(w.kept[:0], w.kept[over:]...)
	}
	return len(p), nil
}
