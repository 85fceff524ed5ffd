package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on
// every architecture the kernel shows to user space.
const clockTicks = 100

// exitPoll is how often a process that is waited for is looked at.
const exitPoll = 20 * time.Millisecond

// ErrGone says that a process has ended, even if another has its number now.
var ErrGone = errors.New("process has ended")

// A ProcFS is a mounted proc file system.
type ProcFS string

// Proc is where the kernel mounts it.
const Proc ProcFS = "/proc"

// A Process is named by its number together with its start, because numbers
// are used again.
type Process struct {
	PID   int
	Start uint64 // clock ticks after boot
}

// String is the form that ParseProcess reads.
func (p Process) String() string { return fmt.Sprintf("%d %d", p.PID, p.Start) }

// ParseProcess reads what String wrote.
func ParseProcess(text string) (Process, error) {
	var p Process
	if n, err := fmt.Sscanf(text, "%d %d", &p.PID, &p.Start); n != 2 || err != nil || p.PID <= 0 {
		return Process{}, fmt.Errorf("%q is not a process number and its start", text)
	}
	return p, nil
}

// Find returns the process that has the number now. A zombie has ended.
func (fs ProcFS) Find(pid int) (Process, error) {
	s, err := fs.stat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: s.start}, nil
}

// Behind finds the process whose number is in a file that it wrote, if it has an
// argument of which the text given is a part: another process that has its number by
// now has none. A program that is asked to write such a file names it there.
func (fs ProcFS) Behind(pidFile, argument string) (Process, bool) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return Process{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Process{}, false
	}
	p, err := fs.Find(pid)
	if err != nil {
		return Process{}, false
	}
	argv, err := fs.Argv(p)
	return p, err == nil && slices.ContainsFunc(argv, func(a string) bool { return strings.Contains(a, argument) })
}

// Alive reports whether p still runs.
func (fs ProcFS) Alive(p Process) bool {
	now, err := fs.Find(p.PID)
	return err == nil && now == p
}

// Argv returns the arguments of p.
func (fs ProcFS) Argv(p Process) ([]string, error) {
	text, err := os.ReadFile(fs.path(p.PID, "cmdline"))
	if err != nil || !fs.Alive(p) {
		return nil, fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

// Usage is what a process has taken.
type Usage struct {
	RSS     uint64        // bytes resident
	Virtual uint64        // bytes of address space
	CPU     time.Duration // user and system time since its start
	Age     time.Duration // since its start
}

// Usage returns what p has taken up to now.
func (fs ProcFS) Usage(p Process) (Usage, error) {
	s, err := fs.stat(p.PID)
	if err != nil {
		return Usage{}, err
	}
	if s.start != p.Start {
		return Usage{}, fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	up, err := fs.Uptime()
	if err != nil {
		return Usage{}, err
	}
	return Usage{
		RSS:     s.pages * uint64(os.Getpagesize()),
		Virtual: s.virtual,
		CPU:     ticks(s.cpu),
		Age:     max(0, up-ticks(s.start)),
	}, nil
}

// Uptime returns the time since boot.
func (fs ProcFS) Uptime() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(string(fs), "uptime"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	return time.Duration(seconds * float64(time.Second)), err
}

// Memory is the memory of the machine, in bytes.
type Memory struct{ Total, Available, SwapTotal, SwapFree uint64 }

// Memory reads /proc/meminfo.
func (fs ProcFS) Memory() (Memory, error) {
	text, err := os.ReadFile(filepath.Join(string(fs), "meminfo"))
	if err != nil {
		return Memory{}, err
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		var name string
		var kib uint64
		if n, _ := fmt.Sscanf(line, "%s %d kB", &name, &kib); n == 2 {
			values[name] = kib << 10
		}
	}
	return Memory{values["MemTotal:"], values["MemAvailable:"], values["SwapTotal:"], values["SwapFree:"]}, nil
}

// Signal sends sig to p, and to no other process that may have its number by now.
func (fs ProcFS) Signal(p Process, sig syscall.Signal) error {
	// FindProcess holds a pidfd: once the start matches, it stays the right one.
	process, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer func() { _ = process.Release() }()
	if !fs.Alive(p) {
		return fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	if err := process.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d: %w", p.PID, ErrGone)
	} else if err != nil {
		return fmt.Errorf("process %d: %s: %w", p.PID, sig, err)
	}
	return nil
}

// WaitExit returns nil when p has ended, or the error of ctx.
func (fs ProcFS) WaitExit(ctx context.Context, p Process) error {
	poll := time.NewTicker(exitPoll)
	defer poll.Stop()
	for fs.Alive(p) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d: %w", p.PID, ctx.Err())
		}
	}
	return nil
}

func (fs ProcFS) path(pid int, file string) string {
	return filepath.Join(string(fs), strconv.Itoa(pid), file)
}

// A stat is the part of /proc/PID/stat that is used here.
type stat struct{ cpu, start, virtual, pages uint64 }

// Fields of /proc/PID/stat, counted from the state, which is number 3 in proc(5).
const (
	fieldState   = 0
	fieldUser    = 14 - 3
	fieldSystem  = 15 - 3
	fieldStart   = 22 - 3
	fieldVirtual = 23 - 3
	fieldPages   = 24 - 3
)

func (fs ProcFS) stat(pid int) (stat, error) {
	text, err := os.ReadFile(fs.path(pid, "stat"))
	if err != nil {
		return stat{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	s, err := parseStat(string(text))
	if err != nil {
		return stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return s, nil
}

func parseStat(text string) (s stat, err error) {
	// The name before the last parenthesis may hold anything, blanks included.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= fieldPages {
		return stat{}, fmt.Errorf("stat: only %d fields", len(fields))
	}
	if fields[fieldState] == "Z" || fields[fieldState] == "X" {
		return stat{}, ErrGone
	}
	number := func(i int) uint64 {
		n, e := strconv.ParseUint(fields[i], 10, 64)
		if e != nil {
			err = fmt.Errorf("stat: %w", e)
		}
		return n
	}
	s = stat{number(fieldUser) + number(fieldSystem), number(fieldStart), number(fieldVirtual), number(fieldPages)}
	return s, err
}

func ticks(n uint64) time.Duration { return time.Duration(n) * time.Second / clockTicks }
