package task

import (
	"fmt"
	"os"
	"path/filepath"

	"etcpve/cfs/format/upid"
)

// A Log is the log of one task.
type Log struct {
	file     *os.File
	warnings int
	keep     func(key, value string) error
}

// Keep records a parameter in the file of the task, so that whoever cleans up
// after a crash of this agent knows of it. An earlier value gives way.
func (l *Log) Keep(key, value string) error {
	if l.keep == nil {
		return nil
	}
	return l.keep(key, value)
}

func openLog(dir string, id upid.UPID) (*Log, error) {
	path := logPath(dir, id)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return &Log{file: f}, nil
}

// logPath is the place of a task's log below dir.
func logPath(dir string, id upid.UPID) string {
	path, err := filepath.Rel(upid.LogDir, id.LogPath())
	if err != nil {
		path = id.String()
	}
	return filepath.Join(dir, path)
}

// Printf adds a line to the log. A full disk loses the line, not the task.
func (l *Log) Printf(format string, args ...any) {
	fmt.Fprintf(l.file, format+"\n", args...)
}

// Warnf adds a warning, of which the task's end tells the number.
func (l *Log) Warnf(format string, args ...any) {
	l.warnings++
	l.Printf("WARN: "+format, args...)
}

// finish writes the last line and returns the outcome.
func (l *Log) finish(err error) (status string) {
	defer l.file.Close()
	switch {
	case err != nil:
		l.Printf("TASK ERROR: %s", err)
		return err.Error()
	case l.warnings > 0:
		status = fmt.Sprintf("WARNINGS: %d", l.warnings)
	default:
		status = "OK"
	}
	l.Printf("TASK %s", status)
	return status
}

// maxIndex is the size at which the index of logs is begun anew.
const maxIndex = 50 << 10

// appendIndex records the end of a task: UPID, end time in hex, outcome.
func appendIndex(dir string, id upid.UPID, end int64, status string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("task index: %w", err)
	}
	path := filepath.Join(dir, "index")
	if info, err := os.Stat(path); err == nil && info.Size() > maxIndex {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("task index: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("task index: %w", err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s %08X %s\n", id, end, status); err != nil {
		return fmt.Errorf("task index: %w", err)
	}
	return nil
}
