package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/host/hosttest"
)

func TestRunTellsWhatTheCommandSaid(t *testing.T) {
	out, err := host.System{}.Run(t.Context(), host.Command{Argv: []string{"cat"}, Stdin: []byte("in")})
	if string(out) != "in" || err != nil {
		t.Errorf("cat: %q, %v", out, err)
	}
	_, err = host.System{}.Run(t.Context(), host.Command{Argv: []string{"ls", "/no such; place"}})
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(err.Error(), "no such; place") {
		t.Errorf("ls of nothing: %v", err)
	}
	if _, err = (host.System{}).Run(t.Context(), host.Command{Argv: []string{"no-such-program"}}); err == nil || errors.As(err, &exit) {
		t.Errorf("a program that does not exist: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := host.System{}.Run(ctx, host.Command{Argv: []string{"sleep", "60"}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 50*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// TestACommandEndsWithItsAgent kills a process that runs one.
func TestACommandEndsWithItsAgent(t *testing.T) {
	const asAgent = "HOST_TEST_AGENT"
	if file := os.Getenv(asAgent); file != "" {
		_, err := host.System{}.Run(t.Context(), host.Command{Argv: []string{"sh", "-c", `echo $$ >"$0" && exec sleep 600`, file}})
		t.Fatal(err) // it is killed before
	}
	file := filepath.Join(t.TempDir(), "pid")
	agent := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	agent.Env = append(os.Environ(), asAgent+"="+file)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	until(t, "the command", func() bool {
		text, _ := os.ReadFile(file)
		n, _ := fmt.Sscanf(string(text), "%d\n", &pid)
		return n == 1
	})
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // killed
	until(t, "the end of the command", func() bool {
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty for one that nobody has waited for
		return len(argv) == 0
	})
}

// until waits for what another process brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestRunLimitsOutput(t *testing.T) {
	out, err := host.System{}.Run(t.Context(), host.Command{Argv: []string{"head", "-c", "17M", "/dev/zero"}})
	if err == nil || len(out) != 16<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestDetachedProcess(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := host.System{}.Start(host.Command{Argv: []string{"sleep", "60"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- p.Wait() }()
	if sid, _ := syscall.Getpgid(p.PID); sid != p.PID {
		t.Errorf("process group %d of process %d", sid, p.PID)
	}
	stale := host.Process{PID: p.PID, Start: p.Start + 1}
	if !host.Proc.Alive(p.Process) || host.Proc.Alive(stale) {
		t.Error("a process is known by its number and start")
	}
	if err := host.Proc.Signal(stale, syscall.SIGKILL); !errors.Is(err, host.ErrGone) {
		t.Errorf("signal to a process of the past: %v", err)
	}
	if argv, err := host.Proc.Argv(p.Process); err != nil || strings.Join(argv, " ") != "sleep 60" {
		t.Errorf("%q, %v", argv, err)
	}
	u, err := host.Proc.Usage(p.Process)
	for err == nil && u.RSS == 0 && u.Age < time.Minute { // it has only just begun
		u, err = host.Proc.Usage(p.Process)
	}
	if err != nil || u.RSS == 0 || u.Age > time.Minute {
		t.Errorf("%+v, %v", u, err)
	}
	if err := host.Proc.Signal(p.Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := host.Proc.WaitExit(t.Context(), p.Process); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil {
		t.Error("a killed process counts as successful")
	}
}

func TestProcReadsNamesWithBlanks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(state string) {
		text := "7 (a ) b) " + state + " 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 4242 1000 3 0"
		if err := os.WriteFile(filepath.Join(dir, "7/stat"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("S")
	p, err := host.ProcFS(dir).Find(7)
	if err != nil || p != (host.Process{PID: 7, Start: 4242}) {
		t.Errorf("%v, %v", p, err)
	}
	if back, err := host.ParseProcess(p.String()); err != nil || back != p {
		t.Errorf("%q reads as %v, %v", p, back, err)
	}
	write("Z")
	if _, err := host.ProcFS(dir).Find(7); !errors.Is(err, host.ErrGone) {
		t.Errorf("a zombie: %v", err)
	}
}

func TestMemoryOfThisMachine(t *testing.T) {
	m, err := host.Proc.Memory()
	if err != nil || m.Total == 0 || m.Available > m.Total {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{"a": "a", "": "''", "a b": "'a b'", "it's": `'it'"'"'s'`, "k=v,w": "k=v,w", "$(x)": "'$(x)'"} {
		if got := host.Quote(arg); got != want {
			t.Errorf("Quote(%q) = %s", arg, got)
		}
	}
}

func TestScriptReplays(t *testing.T) {
	s := hosttest.New(t, `
		# two steps
		$ qemu-img info '/a b'
		> size: 1
		$ false
		! no
		= 1
	`)
	out, err := s.Run(t.Context(), host.Command{Argv: []string{"qemu-img", "info", "/a b"}})
	if string(out) != "size: 1\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_, err = s.Run(t.Context(), host.Command{Argv: []string{"false"}})
	if err == nil || err.Error() != "false: exit status 1: no" {
		t.Errorf("%v", err)
	}
}

func TestALockIsOneHoldersAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock-100.conf")
	release, err := host.Flock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := host.Flock(short, path); !errors.Is(err, host.ErrLocked) {
		t.Errorf("a second holder: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		release, err := host.Flock(t.Context(), path)
		if err == nil {
			release()
		}
		next <- err
	}()
	release()
	if err := <-next; err != nil {
		t.Errorf("after its release: %v", err)
	}
	if _, err := host.Flock(t.Context(), filepath.Join(path, "below")); err == nil || errors.Is(err, host.ErrLocked) {
		t.Errorf("where no file can be: %v", err)
	}
}

func TestAPIDFileNamesAProcessThatNamesIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "100.pid")
	if _, ok := host.Proc.Behind(file, file); ok {
		t.Error("found by a file that is not there")
	}
	cmd := exec.Command("sh", "-c", "read line", file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	for content, want := range map[string]bool{
		fmt.Sprintln(cmd.Process.Pid): true,
		fmt.Sprintln(os.Getpid()):     false, // has the number, but not that argument
		"none\n":                      false,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, ok := host.Proc.Behind(file, file); ok != want || ok && p.PID != cmd.Process.Pid {
			t.Errorf("%q: process %v, %v", content, p, ok)
		}
	}
}
