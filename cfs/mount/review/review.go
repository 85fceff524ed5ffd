// Package review decides whether what somebody saves may be saved.
//
// It owns the order of the steps: the format that owns a path judges the content,
// warnings go to the log, reasons for a refusal there and to the list of rejected saves.
// It knows no format, and never changes what it judges.
package review

import (
	"errors"
	"log/slog"
	"time"

	"etcpve/cfs/format/text"
	"etcpve/cfs/mount/virtual"
)

// ErrRefused is why nothing was saved.
var ErrRefused = errors.New("content refused")

// A Checker judges one save of a file: the lines that each write completes, and
// the whole at the end.
type Checker interface {
	Write(part []byte) (refused []text.Error)
	End() (refused, warnings []text.Error)
}

// A Judge decides on the saves of a node.
type Judge struct {
	Check    func(path string) Checker // for the file at path; nil lets everything pass
	Rejected *virtual.Rejected
	Log      *slog.Logger
	Now      func() time.Time
}

// Save judges the whole content of a file.
func (j Judge) Save(path string, content []byte, uid uint32) error {
	refused, warnings := j.ask(path, content)
	j.warn(path, warnings)
	return j.Refuse(path, uid, refused)
}

// Rename judges the content of a file that takes another name, by the format that owns
// the new one, and returns what is wrong. What the owner of the old name refuses already
// may move: a guest that is older than a rule still changes nodes.
func (j Judge) Rename(from, to string, content []byte) (refused []text.Error) {
	refused, warnings := j.ask(to, content)
	if len(refused) > 0 {
		if before, _ := j.ask(from, content); len(before) > 0 {
			return nil
		}
	}
	j.warn(to, warnings)
	return refused
}

// Refuse reports why a save is refused, if there is a reason.
func (j Judge) Refuse(path string, uid uint32, reasons []text.Error) error {
	if len(reasons) == 0 {
		return nil
	}
	for _, r := range reasons {
		j.Log.Warn("save refused", "path", path, "line", r.Line, "column", r.Column, "key", r.Key, "err", r.Message)
	}
	j.Rejected.Add(virtual.Rejection{Time: j.Now(), Path: path, UID: uid, Reasons: reasons})
	return ErrRefused
}

func (j Judge) ask(path string, content []byte) (refused, warnings []text.Error) {
	if j.Check == nil {
		return nil, nil
	}
	c := j.Check(path)
	c.Write(content)
	return c.End()
}

func (j Judge) warn(path string, warnings []text.Error) {
	for _, w := range warnings {
		j.Log.Warn("save accepted with a warning", "path", path, "line", w.Line, "column", w.Column, "key", w.Key, "err", w.Message)
	}
}

// Lines judges the lines of a save as they are written: some programs ignore the error
// of close but not that of write. It stops at a write that does not continue the one
// before; the whole is judged when it is saved.
type Lines struct {
	checker Checker
	fed     uint64 // bytes that the checker has seen
	stopped bool
}

// Write judges a part that was written at off. before is what the file holds up to
// there at the first write, which is not this writer's fault.
func (l *Lines) Write(j Judge, path string, before []byte, off uint64, part []byte) (refused []text.Error) {
	if l.checker == nil {
		l.checker = j.Check(path)
		l.checker.Write(before)
		l.fed = off
	}
	if l.stopped = l.stopped || off != l.fed; l.stopped {
		return nil
	}
	l.fed += uint64(len(part))
	return l.checker.Write(part)
}
