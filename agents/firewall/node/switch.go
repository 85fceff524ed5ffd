package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A Switch is how the firewall of a node is stopped and started by hand. Like
// the rules themselves it lasts until the node is booted.
type Switch struct {
	Dir string // below /run
}

func (s Switch) stopFile() string { return filepath.Join(s.Dir, "stopped") }

// Stopped reports whether the firewall was stopped by hand.
func (s Switch) Stopped() bool {
	_, err := os.Stat(s.stopFile())
	return err == nil
}

// Stop notes that the node is to be without the firewall's rules.
func (s Switch) Stop() error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.stopFile(), nil, 0o644)
}

// Start takes Stop back.
func (s Switch) Start() error {
	if err := os.Remove(s.stopFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// lockPoll is how often a lock that is taken is tried.
const lockPoll = 20 * time.Millisecond

// Lock keeps all others from changing the kernel's rules until unlock is called.
func (s Switch) Lock(ctx context.Context) (unlock func(), err error) {
	for {
		unlock, err := s.take("lock")
		if err == nil {
			if err = os.WriteFile(s.lockFile(), s.self(), 0o600); err != nil {
				unlock()
				return nil, err
			}
			return unlock, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func (s Switch) lockFile() string { return filepath.Join(s.Dir, "lock") }

func (s Switch) self() []byte { return strconv.AppendInt(nil, int64(os.Getpid()), 10) }

// Undisturbed reports whether this process was the last to hold the lock: then
// no other changed the kernel's rules since.
func (s Switch) Undisturbed() bool {
	last, err := os.ReadFile(s.lockFile())
	return err == nil && bytes.Equal(last, s.self())
}

// Running reports whether an agent is at work.
func (s Switch) Running() bool {
	done, err := s.take("agent")
	if err == nil {
		done()
	}
	return errors.Is(err, syscall.EWOULDBLOCK)
}

// take locks a file of the directory. The kernel unlocks it should the process
// end.
func (s Switch) take(name string) (release func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
