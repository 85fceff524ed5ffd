// Package hosttest stands in for the machine in tests: it replays transcripts
// of commands.
//
// It owns the form of a transcript and checks that every command comes, in
// order, with exactly the arguments written down. It never runs anything.
//
// A transcript is text. Each command begins a step, what follows belongs to it:
//
//	$ qemu-img info --output=json '/a b'
//	> standard output
//	! standard error
//	= 1
//
// "=" is the exit status, 0 if absent. Lines that begin with "#" and empty
// lines are for the reader.
package hosttest

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"etcpve/agents/host"
)

// A Script runs the commands of a transcript.
type Script struct {
	t     testing.TB
	mu    sync.Mutex // guards steps
	steps []step
}

type step struct {
	command        string
	stdout, stderr string
	code           int
}

// New reads a transcript. When the test ends, all of it must have been run.
func New(t testing.TB, transcript string) *Script {
	t.Helper()
	s := &Script{t: t, steps: parse(t, transcript)}
	t.Cleanup(func() {
		for _, step := range s.steps {
			t.Errorf("never run: %s", step.command)
		}
	})
	return s
}

// Run answers as the transcript's next step says.
func (s *Script) Run(_ context.Context, c host.Command) ([]byte, error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) == 0 || s.steps[0].command != c.String() {
		want := "nothing"
		if len(s.steps) > 0 {
			want = s.steps[0].command
		}
		s.t.Errorf("run %s; want %s", c, want)
		return nil, fmt.Errorf("%s: not in the transcript", c.Argv[0])
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	if c.Input != nil {
		if _, err := io.Copy(io.Discard, c.Input); err != nil {
			return nil, err
		}
	}
	if c.Output != nil {
		if _, err := io.WriteString(c.Output, step.stdout); err != nil {
			return nil, err
		}
		step.stdout = ""
	}
	if step.code != 0 {
		return []byte(step.stdout), &host.ExitError{
			Command: c, Code: step.code, Stderr: step.stderr, State: fmt.Sprintf("exit status %d", step.code),
		}
	}
	return []byte(step.stdout), nil
}

func parse(t testing.TB, transcript string) (steps []step) {
	for line := range strings.Lines(transcript) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		text := strings.TrimPrefix(line[1:], " ")
		if line[0] == '$' {
			steps = append(steps, step{command: text})
			continue
		}
		if len(steps) == 0 {
			t.Fatalf("transcript: %q comes before any command", line)
		}
		last := &steps[len(steps)-1]
		switch line[0] {
		case '>':
			last.stdout += text + "\n"
		case '!':
			last.stderr += text + "\n"
		case '=':
			code, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("transcript: exit status %q", text)
			}
			last.code = code
		default:
			t.Fatalf("transcript: %q begins with none of $ > ! = #", line)
		}
	}
	return steps
}
