package main

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"os/exec"
	"syscall"
)

// readyFD tells the daemon, through its environment, on which descriptor the
// process that started it waits for the word that the mount is there.
const (
	readyVariable = "PMXCFS_READY"
	readyFD       = 3
)

// background starts the daemon in a terminal session of its own and returns when
// the file system is mounted, or with the reason why not.
func background() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(executable, append([]string{"-f"}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), readyVariable+"=1")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{in}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	in.Close()
	if err != nil {
		return err
	}
	if word, _ := io.ReadAll(out); len(word) > 0 {
		return nil
	}
	err = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code > 0 {
		os.Exit(code) // it has said why
	}
	return fmt.Errorf("did not start: %w", err)
}

// starter is the process that waits for this one to be ready, if there is one.
type starter struct{ pipe *os.File }

func readiness() starter {
	if os.Getenv(readyVariable) == "" {
		return starter{}
	}
	os.Unsetenv(readyVariable)
	syscall.CloseOnExec(readyFD)
	os.Chdir("/") // paths are absolute by now, and no file system is kept busy
	return starter{os.NewFile(readyFD, "ready")}
}

func (s starter) isSet() bool { return s.pipe != nil }

// ready lets the starter go and leaves its terminal.
func (s starter) ready() {
	if s.pipe == nil {
		return
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for fd := range 3 {
			syscall.Dup3(int(null.Fd()), fd, 0)
		}
		null.Close()
	}
	s.pipe.Write([]byte{1})
	s.pipe.Close()
}

// newLogger logs to standard error, or to the system's log, where there is one, if
// the terminal will be left.
func newLogger(level slog.Leveler, daemon bool) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if daemon {
		if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "pmxcfs"); err == nil {
			return slog.New(slog.NewTextHandler(w, opt))
		}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// errInUse says that another daemon has the database.
func errInUse(path string) error {
	return fmt.Errorf("%s: another pmxcfs is running on this database", path)
}
